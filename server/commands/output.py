"""The things that every command shares: how a failure is reported, exit codes, colour."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec

import typer
from rich.console import Console

#: The exit code of a command that ran well and had nothing to do.
NOTHING = 3

P = ParamSpec("P")


class CommandError(ValueError):
    """A command cannot be carried out; the text says why, and what would help."""


def say(line: str) -> None:
    """Prints a line on standard error: standard output is for what was asked for."""
    typer.echo(line, err=True)


def reported(exit_code: int = 1) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """A command whose expected failures are reported in a line, without a traceback, and end it with this code."""

    def decorate(command: Callable[P, None]) -> Callable[P, None]:
        @wraps(command)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                command(*args, **kwargs)
            except BrokenPipeError:
                raise  # the reader has enough: click ends quietly
            except _expected() as error:
                say(f"tickertape: {error}")
                raise typer.Exit(exit_code) from error

        return run

    return decorate


def _expected() -> tuple[type[Exception], ...]:
    """Returns the errors that settings and surroundings can cause. ``ValueError``: settings, tokenizers, formats,
    files.

    Imported when something is wrong: help is to be there at once."""
    from tickertape.clients.engines.embedded.model_file import ModelFileError
    from tickertape.clients.engines.errors import EngineError
    from tickertape.server.errors import ProxyError

    return EngineError, ModelFileError, ProxyError, ValueError, OSError


@contextmanager
def asking(server: str) -> Iterator[None]:
    """Around calls of a server.

    Raises:
        CommandError: it refuses, or cannot be reached.
    """
    import httpx

    from tickertape.clients.calls import API_KEY_VARIABLE, TrajectoryError
    from tickertape.server.errors import ProxyError

    try:
        yield
    except TrajectoryError as error:
        advice = f"; give a trainer's key: --api-key KEY, or {API_KEY_VARIABLE}" if error.status in (401, 403) else ""
        raise CommandError(f"{error}{advice}") from error
    except httpx.HTTPError as error:
        raise CommandError(str(error)) from error
    except ProxyError as error:
        raise CommandError(f"{server}: {error}") from error


def is_color(wanted: bool | None) -> bool:
    """Returns True if output is to be in colour: as it is asked for, else where standard output is a terminal that
    shows it.

    rich knows ``NO_COLOR``, ``FORCE_COLOR`` and ``TERM=dumb``.
    """
    if wanted is not None:
        return wanted
    console = Console()
    return console.is_terminal and not console.no_color and console.color_system is not None
