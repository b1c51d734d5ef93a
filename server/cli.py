"""The command line."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from tickertape.clients.engines.errors import EngineError
from tickertape.clients.engines.model_file import ModelFileError
from tickertape.renderers.format import History
from tickertape.renderers.supervised import TrainOn
from tickertape.server.assembly import SettingsError
from tickertape.server.running import PortInUse, serve_forever
from tickertape.server.settings import Settings, UnknownFields
from tickertape.server.store.store import StoreError
from tickertape.server.trajectories.options import Cut

#: What can be wrong with settings and surroundings; told in a line, without a traceback.
EXPECTED = (SettingsError, EngineError, ModelFileError, StoreError, PortInUse, ValueError)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Agents speak messages, engines speak tokens, trainers get the exact tape.",
)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8700,
    db: Annotated[Path, typer.Option(help="The tape, an SQLite file; made if it is not there.")] = Path("tape.db"),
    engine: Annotated[
        list[str] | None,
        typer.Option(
            metavar="embedded|KIND=URL", help="vllm=http://…, sglang=http://… or tinker=WEIGHTS; repeatable. [embedded]"
        ),
    ] = None,
    engine_api_key: Annotated[
        str | None, typer.Option(envvar="TICKERTAPE_ENGINE_API_KEY", help="Bearer token for the engine.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Tokenizer: HUB_NAME or TOKENIZER_DIR.")] = None,
    gguf: Annotated[Path | None, typer.Option(help="The embedded engine's model file.")] = None,
    context: Annotated[int, typer.Option(min=256, help="Embedded: tokens of context for each generation.")] = 8192,
    parallel: Annotated[int, typer.Option(min=1, help="Embedded: concurrent generations.")] = 4,
    renderer: Annotated[str | None, typer.Option(help="A family's name, or 'template'. Default: by evidence.")] = None,
    served_model_name: Annotated[
        list[str] | None, typer.Option(help="Another name for the model; repeatable. '*' accepts any name.")
    ] = None,
    history: Annotated[History, typer.Option(help="Keep what was sampled, or do what the template does.")] = (
        History.EXACT
    ),
    matching: Annotated[
        str,
        typer.Option(help="What counts when histories are compared: strict, default, loose, or your.module.policy."),
    ] = "default",
    replay_window: Annotated[
        float, typer.Option(min=0, help="Seconds for which a retry gets the answer again; 0: never.")
    ] = 600,
    replay_memory: Annotated[int, typer.Option(min=0, help="Bytes of answers kept for retries.")] = 64 * 2**20,
    unknown_fields: Annotated[
        UnknownFields, typer.Option(help="Request fields outside the protocol: name them, or refuse them.")
    ] = UnknownFields.REPORT,
    heartbeat: Annotated[float, typer.Option(min=0.1, help="Seconds of silence before a stream shows life.")] = 15,
    engine_limit: Annotated[
        int | None, typer.Option(min=1, help="Generations that an engine gets at once; more wait. Default: no limit.")
    ] = None,
    engine_patience: Annotated[
        float, typer.Option(min=0, help="Seconds that a request waits while no engine serves.")
    ] = 30,
    turn_timeout: Annotated[
        float | None, typer.Option(min=1, help="Abort a turn that samples for so many seconds. Default: never.")
    ] = None,
    token_array: Annotated[
        list[str] | None,
        typer.Option(help="Per-token extra to keep with each turn: routed_experts, sampling_mask; repeatable."),
    ] = None,
    max_prompt_tokens: Annotated[int | None, typer.Option(min=1, help="Refuse longer prompts.")] = None,
    max_output_tokens: Annotated[int | None, typer.Option(min=1, help="Sample at most so many tokens a turn.")] = None,
    finish_idle: Annotated[
        float | None, typer.Option(min=1, help="Finish sessions without a call for so many seconds.")
    ] = None,
    keep_days: Annotated[
        float | None, typer.Option(min=0, help="Drop finished sessions after so many days. Default: never.")
    ] = None,
    keep_tokens: Annotated[
        int | None, typer.Option(min=1, help="Drop the oldest finished sessions above so many tokens on tape.")
    ] = None,
    grace: Annotated[int, typer.Option(min=0, help="Seconds that running calls get when the server is stopped.")] = 20,
) -> None:
    """Serve the proxy."""
    settings = Settings(
        host=host,
        port=port,
        db=db,
        engines=tuple(engine or ("embedded",)),
        engine_api_key=engine_api_key,
        model=model,
        gguf=gguf,
        context=context,
        parallel=parallel,
        renderer=renderer,
        served_model_names=tuple(served_model_name or ()),
        history=history,
        matching=matching,
        replay_window=replay_window,
        replay_memory=replay_memory,
        unknown_fields=unknown_fields,
        heartbeat=heartbeat,
        engine_limit=engine_limit,
        engine_patience=engine_patience,
        turn_timeout=turn_timeout,
        token_arrays=tuple(token_array or ()),
        max_prompt_tokens=max_prompt_tokens,
        max_output_tokens=max_output_tokens,
        finish_idle=finish_idle,
        keep_days=keep_days,
        keep_tokens=keep_tokens,
        grace=grace,
    )
    try:
        serve_forever(settings, say=_say)
    except EXPECTED as error:
        _say(f"tickertape: {error}")
        raise typer.Exit(1) from error


@app.command()
def demo(
    db: Annotated[Path | None, typer.Option(help="Keep the tape in this file.")] = None,
    gguf: Annotated[Path | None, typer.Option(help="Another model file than the default one.")] = None,
    color: Annotated[bool, typer.Option(help="Print the tape in colour.")] = True,
) -> None:
    """Run an agent with a tool against the embedded model, and show its tape."""
    from tickertape.server.demo import run_demo

    try:
        run_demo(db=db, gguf=gguf, color=color)
    except EXPECTED as error:
        _say(f"tickertape: {error}")
        raise typer.Exit(1) from error


@app.command("audit")
def audit_command(
    source: Annotated[
        str, typer.Argument(metavar="MODEL|TOKENIZER_DIR|TEMPLATE", help="A hub name, a directory, a file.")
    ],
) -> None:
    """Say which renderer fits a model and why, and where its chat template breaks the prefix of a growing conversation.

    Exit code: 0 if the template keeps every prefix, 1 if it breaks one, 2 if there is nothing to audit."""
    from rich.console import Console

    from tickertape.server.inspecting import print_audit

    try:
        keeps = print_audit(source, Console(highlight=False))
    except (ValueError, OSError) as error:
        _say(f"tickertape: {error}")
        raise typer.Exit(2) from error
    raise typer.Exit(0 if keeps else 1)


@app.command("render")
def render_command(
    model: Annotated[str, typer.Argument(metavar="MODEL|TOKENIZER_DIR|TEMPLATE", help="Whose format.")],
    file: Annotated[str, typer.Argument(help="JSON: messages, or a chat request; '-' reads stdin.")] = "-",
    renderer: Annotated[str | None, typer.Option(help="A family's name, or 'template'. Default: by evidence.")] = None,
    train_on: Annotated[
        TrainOn | None, typer.Option(help="Show what an example for fine-tuning would train, instead of a prompt.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="A template option, KEY=JSON, such as enable_thinking=false; repeatable.")
    ] = None,
    color: Annotated[bool, typer.Option(help="Trained tokens in another colour.")] = True,
) -> None:
    """Print a conversation token for token as the model reads it."""
    from tickertape.server.inspecting import print_conversation

    try:
        options = dict(map(_key_and_value, option or ()))
        print_conversation(file, model, renderer_name=renderer, train_on=train_on, options=options, color=color)
    except (ValueError, OSError) as error:
        _say(f"tickertape: {error}")
        raise typer.Exit(2) from error


@app.command("export")
def export_command(
    source: Annotated[str, typer.Argument(metavar="URL|TAPE", help="A running server, or a tape file.")],
    target: Annotated[
        Path, typer.Argument(metavar="FILE|FOLDER", help="*.parquet, *.arrow, *.ndjson or *.json, or a folder.")
    ],
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A filter, such as group_id=g or metadata.env=web; repeatable."),
    ] = None,
    per_turn: Annotated[bool, typer.Option(help="Each turn a sample of its own.")] = False,
    max_length: Annotated[int | None, typer.Option(min=1, help="Cut samples at so many tokens.")] = None,
    cut: Annotated[Cut, typer.Option(help="Where a sample that is too long ends.")] = Cut.TURN,
    outcomes: Annotated[str | None, typer.Option(help="Train turns of these outcomes only: stop,tool_calls")] = None,
    drop_outcomes: Annotated[str | None, typer.Option(help="Do not train turns of these.")] = None,
    min_version: Annotated[int | None, typer.Option(help="Train turns of this policy version or later.")] = None,
    part_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a Parquet part, about.")] = 32_000_000,
) -> None:
    """Write the samples of finished sessions to a file, or to a folder of Parquet parts.

    A folder can be gone on with: the next run writes what is missing, and what was finished since."""
    from tickertape.server.exporting import run_export

    options = {
        "per_turn": per_turn or None,
        "max_length": max_length,
        "cut": cut.value if max_length is not None else None,
        "outcomes": outcomes and outcomes.split(","),
        "drop_outcomes": drop_outcomes and drop_outcomes.split(","),
        "min_version": min_version,
    }
    try:
        given = {name: value for name, value in options.items() if value is not None}
        run_export(source, target, where or (), given, part_tokens=part_tokens)
    except (*EXPECTED, OSError) as error:
        _say(f"tickertape: {error}")
        raise typer.Exit(1) from error


@app.command("verify")
def verify_command(
    source: Annotated[str, typer.Argument(metavar="URL|TAPE", help="A running server, or a tape file.")],
    engine: Annotated[str, typer.Option(metavar="KIND=URL", help="Who recomputes: vllm=http://… or sglang=http://…")],
    engine_api_key: Annotated[
        str | None, typer.Option(envvar="TICKERTAPE_ENGINE_API_KEY", help="Bearer token for the engine.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Tokenizer, to spell tokens out: HUB_NAME or TOKENIZER_DIR.")
    ] = None,
    session: Annotated[list[str] | None, typer.Option(help="A session's id; repeatable. Default: all.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A filter, such as group_id=g or metadata.env=web; repeatable."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="So many sessions at most.")] = None,
    version: Annotated[str | None, typer.Option(help="Compare tokens of this policy version only.")] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="Of |Δ| between two logprobs.")] = 1e-3,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")] = False,
) -> None:
    """Compare what is on tape with what an engine computes: prompts, logprobs, greedy completions.

    Exit code: 0 if all that can be compared is the same, 1 if something is off, 2 if it could not be done."""
    from tickertape.server.verify_findings import Rules
    from tickertape.server.verifying import Which, run_verify

    which = Which(session or (), where or (), limit)
    rules = Rules(tolerance, version)
    try:
        code = run_verify(source, engine, which, rules, api_key=engine_api_key, model=model, as_json=as_json)
    except (*EXPECTED, OSError) as error:
        _say(f"tickertape: {error}")
        raise typer.Exit(2) from error
    raise typer.Exit(code)


def _key_and_value(option: str) -> tuple[str, object]:
    key, equals, value = option.partition("=")
    if not equals or not key:
        raise ValueError(f"--option {option!r}: it must be KEY=JSON")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _say(line: str) -> None:
    typer.echo(line, err=True)


def main() -> None:
    """The ``tickertape`` command."""
    # Tokenizers and templates are all that is used of transformers; it need not tell that it has no torch.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    app()


if __name__ == "__main__":
    main()
