"""The command line."""

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from tickertape.renderers.supervised import TrainOn
from tickertape.server.commands.keys import keys
from tickertape.server.commands.output import NOTHING, is_color, reported, say
from tickertape.server.settings.flags import with_settings
from tickertape.server.settings.sources import Loaded, shown
from tickertape.server.trajectories.options import Cut

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Agents speak messages, engines speak tokens, trainers get the exact tape.",
    epilog="Exit codes, and what to do about typical errors: docs/command-line.md",
)
#: For commands that ask a running server.
_ApiKey = Annotated[
    str | None, typer.Option(envvar="TICKERTAPE_API_KEY", help="A trainer's key, if the server asks for one.")
]
_Color = Annotated[
    bool | None,
    typer.Option(help="Print in colour, or not. Default: into a terminal, unless NO_COLOR or TERM=dumb is set."),
]

_Where = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="A filter, such as group_id=g or metadata.env=web; repeatable."),
]

app.add_typer(keys, name="keys")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tickertape {version('tickertape')}")
        raise typer.Exit


@app.callback()
def tickertape(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """What all commands share."""


def _serve(loaded: Loaded) -> None:
    """Serve the proxy. Each flag can be an environment variable TICKERTAPE_… or stand in the settings file, too."""
    from tickertape.server.serving.running import serve_forever

    serve_forever(loaded.settings, say=say)


def _config(loaded: Loaded) -> None:
    """Print the effective settings as a TOML file, and where each comes from."""
    typer.echo(shown(loaded), nl=False)


for _name, _command in (("serve", _serve), ("config", _config)):
    app.command(_name)(reported()(with_settings(_command)))


@app.command()
@reported()
def demo(
    db: Annotated[Path | None, typer.Option(help="Keep the tape in this file.")] = None,
    gguf: Annotated[Path | None, typer.Option(help="Another model file than the default one.")] = None,
    color: _Color = None,
) -> None:
    """Run an agent with a tool against the embedded model, and show its tape."""
    from tickertape.server.commands.demo import run_demo

    run_demo(db=db, gguf=gguf, color=is_color(color))


@app.command("audit")
@reported(2)
def audit_command(
    source: Annotated[
        str, typer.Argument(metavar="MODEL|TOKENIZER_DIR|TEMPLATE", help="A hub name, a directory, a file.")
    ],
) -> None:
    """Say which renderer fits a model and why, and where its chat template breaks the prefix of a growing conversation.

    Exit code: 0 if the template keeps every prefix, 1 if it breaks one, 2 if there is nothing to audit."""
    from rich.console import Console

    from tickertape.server.commands.inspect import print_audit

    raise typer.Exit(0 if print_audit(source, Console(highlight=False)) else 1)


@app.command("render")
@reported(2)
def render_command(
    model: Annotated[str, typer.Argument(metavar="MODEL|TOKENIZER_DIR|TEMPLATE", help="Whose format.")],
    file: Annotated[str, typer.Argument(help="JSON: messages, or a chat request; '-' reads stdin.")] = "-",
    renderer: Annotated[
        str | None, typer.Option(help="A family's name, template, or package.module.Class. Default: by evidence.")
    ] = None,
    train_on: Annotated[
        TrainOn | None, typer.Option(help="Show what an example for fine-tuning would train, instead of a prompt.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="A template option, KEY=JSON, such as enable_thinking=false; repeatable.")
    ] = None,
    color: _Color = None,
) -> None:
    """Print a conversation token for token as the model reads it."""
    from tickertape.server.commands.inspect import print_conversation

    options = dict(map(_key_and_value, option or ()))
    print_conversation(file, model, renderer_name=renderer, train_on=train_on, options=options, color=is_color(color))


@app.command("finish")
@reported()
def finish_command(
    url: Annotated[str, typer.Argument(metavar="URL", help="A running server.")],
    session: Annotated[list[str] | None, typer.Argument(metavar="SESSION…", help="Sessions' ids.")] = None,
    where: _Where = None,
    reward: Annotated[float | None, typer.Option(help="Give each of them this reward first.")] = None,
    api_key: _ApiKey = None,
) -> None:
    """Finish sessions, so that their samples can be exported and leased; their agents are refused from then on."""
    from tickertape.server.commands.finish import run_finish

    run_finish(url, session or (), where or (), reward=reward, api_key=api_key)


@app.command("export")
@reported()
def export_command(
    source: Annotated[str, typer.Argument(metavar="URL|TAPE", help="A running server, or a tape file.")],
    target: Annotated[
        Path, typer.Argument(metavar="FILE|FOLDER", help="*.parquet, *.arrow, *.ndjson or *.json, or a folder.")
    ],
    where: _Where = None,
    per_turn: Annotated[bool, typer.Option(help="Each turn a sample of its own.")] = False,
    max_length: Annotated[int | None, typer.Option(min=1, help="Cut samples at so many tokens.")] = None,
    cut: Annotated[Cut, typer.Option(help="Where a sample that is too long ends.")] = Cut.TURN,
    outcomes: Annotated[str | None, typer.Option(help="Train turns of these outcomes only: stop,tool_calls")] = None,
    drop_outcomes: Annotated[str | None, typer.Option(help="Do not train turns of these.")] = None,
    min_version: Annotated[int | None, typer.Option(help="Train turns of this policy version or later.")] = None,
    part_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a Parquet part, about.")] = 32_000_000,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    api_key: _ApiKey = None,
) -> None:
    """Write the samples of finished sessions to a file, or to a folder of Parquet parts.

    A folder can be continued: the next run adds what is missing, and what was finished since.

    Exit code: 0 if there are samples in the target, 3 if there was nothing to write."""
    from tickertape.server.commands.export import run_export

    options = {
        "per_turn": per_turn or None,
        "max_length": max_length,
        "cut": cut.value if max_length is not None else None,
        "outcomes": outcomes and outcomes.split(","),
        "drop_outcomes": drop_outcomes and drop_outcomes.split(","),
        "min_version": min_version,
    }
    given = {name: value for name, value in options.items() if value is not None}
    done = run_export(source, target, where or (), given, part_tokens=part_tokens, quiet=quiet, api_key=api_key)
    raise typer.Exit(0 if done.has_samples else NOTHING)


@app.command("verify")
@reported(2)
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
    where: _Where = None,
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
    keys_given = {"api_key": api_key, "engine_api_key": engine_api_key}
    raise typer.Exit(run_verify(source, engine, which, rules, model=model, as_json=as_json, **keys_given))


def _key_and_value(option: str) -> tuple[str, object]:
    key, equals, value = option.partition("=")
    if not equals or not key:
        raise ValueError(f"--option {option!r}: it must be KEY=JSON")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def main() -> None:
    """The ``tickertape`` command."""
    # Tokenizers and templates are all that is used of transformers; it need not tell that it has no torch.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    app()


if __name__ == "__main__":
    main()
