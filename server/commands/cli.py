"""The command line."""

import json
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, ParamSpec

import typer

from tickertape.clients.engines.embedded.model_file import ModelFileError
from tickertape.clients.engines.errors import EngineError
from tickertape.renderers.supervised import TrainOn
from tickertape.server.commands.keys import keys
from tickertape.server.serving.running import PortInUse, serve_forever
from tickertape.server.settings import SettingsError
from tickertape.server.settings.flags import with_settings
from tickertape.server.settings.sources import Loaded, shown
from tickertape.server.store.store import StoreError
from tickertape.server.trajectories.options import Cut

#: What can be wrong with settings and surroundings; told in a line, without a traceback.
EXPECTED = (SettingsError, EngineError, ModelFileError, StoreError, PortInUse, ValueError)

P = ParamSpec("P")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Agents speak messages, engines speak tokens, trainers get the exact tape.",
)
#: For commands that ask a running server.
_ApiKey = Annotated[
    str | None, typer.Option(envvar="TICKERTAPE_API_KEY", help="A trainer's key, if the server asks for one.")
]

app.add_typer(keys, name="keys")


def _told(command: Callable[P, None]) -> Callable[P, None]:
    """A command whose expected failures are told in a line each."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except EXPECTED as error:
            _say(f"tickertape: {error}")
            raise typer.Exit(1) from error

    return run


def _serve(loaded: Loaded) -> None:
    """Serve the proxy. Each flag can be an environment variable TICKERTAPE_… or stand in the settings file, too."""
    serve_forever(loaded.settings, say=_say)


def _config(loaded: Loaded) -> None:
    """Print the effective settings as a TOML file, and where each comes from."""
    typer.echo(shown(loaded), nl=False)


for _name, _command in (("serve", _serve), ("config", _config)):
    app.command(_name)(_told(with_settings(_command)))


@app.command()
def demo(
    db: Annotated[Path | None, typer.Option(help="Keep the tape in this file.")] = None,
    gguf: Annotated[Path | None, typer.Option(help="Another model file than the default one.")] = None,
    color: Annotated[bool, typer.Option(help="Print the tape in colour.")] = True,
) -> None:
    """Run an agent with a tool against the embedded model, and show its tape."""
    from tickertape.server.commands.demo import run_demo

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

    from tickertape.server.commands.inspect import print_audit

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
    from tickertape.server.commands.inspect import print_conversation

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
    api_key: _ApiKey = None,
) -> None:
    """Write the samples of finished sessions to a file, or to a folder of Parquet parts.

    A folder can be gone on with: the next run writes what is missing, and what was finished since."""
    from tickertape.server.commands.export import run_export

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
        run_export(source, target, where or (), given, part_tokens=part_tokens, api_key=api_key)
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
    api_key: _ApiKey = None,
) -> None:
    """Compare what is on tape with what an engine computes: prompts, logprobs, greedy completions.

    Exit code: 0 if all that can be compared is the same, 1 if something is off, 2 if it could not be done."""
    from tickertape.server.commands.verify.command import Which, run_verify
    from tickertape.server.commands.verify.findings import Tolerances

    which = Which(session or (), where or (), limit)
    rules = Tolerances(tolerance, version)
    try:
        code = run_verify(
            source, engine, which, rules, api_key=api_key, engine_api_key=engine_api_key, model=model, as_json=as_json
        )
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
