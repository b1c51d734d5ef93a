"""The settings as flags of a command."""

import inspect
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from tickertape.server.settings import Settings
from tickertape.server.settings.model import panel_of_each
from tickertape.server.settings.sources import CONFIG, Loaded, flag_of, load


def with_settings(command: Callable[[Loaded], None]) -> Callable[..., None]:
    """A command that takes every setting as a flag, and a settings file; gets what is effective.

    Raises:
        SettingsError: when the command is called.
    """

    def run(*, config: Path | None, **flags: Any) -> None:
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in flags.items()}
        command(load({name: value for name, value in given.items() if value is not None}, config=config))

    options = {"config": Annotated[Path | None, typer.Option(help=f"Settings as a TOML file; also ${CONFIG}.")]}
    panels = panel_of_each()
    options |= {name: _option(name, field, panels[name]) for name, field in Settings.model_fields.items()}
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(name, keyword, default=None, annotation=option) for name, option in options.items()]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = options
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def _option(name: str, field: FieldInfo, panel: str) -> Any:
    """None by default, so that what is not given is known to come from elsewhere; the help tells the default."""
    default = field.get_default()
    shown = ", ".join(default) if isinstance(default, tuple) else default
    told = "" if shown in (None, "", False) else f" (default: {shown})"
    kind = _plain(field.annotation)
    repeatable = " Repeatable." if get_origin(kind) is list else ""
    flag = f"{flag_of(name)}/--no-{flag_of(name)[2:]}" if kind is bool else flag_of(name)
    option = typer.Option(flag, help=f"{field.description}{repeatable}{told}", rich_help_panel=panel)
    return Annotated[kind | None, option]


def _plain(annotation: Any) -> Any:
    """Returns the type that the command line reads; pydantic looks at limits, wherever a value comes from."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _plain(get_args(annotation)[0])
    if origin in (Union, UnionType):
        (kind,) = (part for part in get_args(annotation) if part is not type(None))
        return _plain(kind)
    if origin is tuple:
        return list[str]
    return str if annotation is SecretStr else annotation
