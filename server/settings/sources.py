"""The sources of settings: flags, environment, files of secrets, a TOML file; each beats those after it."""

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    TomlConfigSettingsSource,
)
from pydantic_settings.exceptions import SettingsError as SourceError

from tickertape.server.settings import Settings, SettingsError

PREFIX = "TICKERTAPE_"
CONFIG = f"{PREFIX}CONFIG"
SECRETS = f"{PREFIX}SECRETS_DIR"
#: Variables of other parts of Tickertape, which are no settings of a server.
_OTHERS = {CONFIG, SECRETS, f"{PREFIX}CACHE", f"{PREFIX}API_KEY", f"{PREFIX}URL"}
#: Kubernetes adds such variables to every pod beside a service that is called tickertape.
_SERVICE_LINKS = (f"{PREFIX}SERVICE_", f"{PREFIX}PORT_")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where each that is not a default comes from."""

    settings: Settings
    sources: dict[str, str]
    """By field: ``flag --port``, ``environment TICKERTAPE_PORT``, ``secret file …``, ``file tickertape.toml``."""


def flag_of(name: str) -> str:
    """The flag of a field. A list's flag is given once for each part, and so has a name for one of them."""
    singular = {"allowed_hosts", "engines", "served_model_names", "token_arrays"}
    return "--" + (name[:-1] if name in singular else name).replace("_", "-")


def load(flags: Mapping[str, Any], *, config: Path | None = None, environ: Mapping[str, str] | None = None) -> Loaded:
    """The effective settings.

    Args:
        flags: by field, those that were given.
        config: the TOML file; ``$TICKERTAPE_CONFIG`` if not given.
        environ: variables; the process's own if not given.

    Raises:
        SettingsError: one is unknown or cannot be; the text says where it stands and what would be right.
    """
    environ = os.environ if environ is None else environ
    _check_variables(environ)
    file = config or (Path(environ[CONFIG]) if environ.get(CONFIG) else None)
    folder = environ.get(SECRETS)
    layers: list[tuple[Callable[[str], str], Mapping[str, Any]]] = [
        (lambda name: f"flag {flag_of(name)}", flags),
        (lambda name: f"environment {PREFIX}{name.upper()}", _environment(environ)),
        (lambda name: f"secret file {folder}/{PREFIX.lower()}{name}", _secret_files(folder)),
        (lambda _: f"file {file}", _toml(file)),
    ]
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for describe, layer in layers:
        for name, value in layer.items():
            if name not in values:
                values[name], sources[name] = value, describe(name)
    try:
        return Loaded(Settings(**values), sources)
    except ValidationError as error:
        raise SettingsError("\n".join(_explained(found, sources) for found in error.errors())) from None


def shown(loaded: Loaded) -> str:
    """The effective settings as a TOML file, with the source of each. Secrets are only said to be set."""
    lines = []
    for name, field in Settings.model_fields.items():
        value = getattr(loaded.settings, name)
        source = loaded.sources.get(name, "default")
        said = "" if field.description is None else f"# {field.description}\n"
        if value is None:
            lines.append(f"{said}# {name} is not set")
        elif isinstance(value, SecretStr):
            lines.append(f"{said}# {name} is set, and secret; {source}")
        else:
            value = _told(name, value)
            lines.append(f"{said}{name} = {_toml_value(value)}  # {source}")
    return "\n\n".join(lines) + "\n"


def _told(name: str, value: Any) -> Any:
    """A setting without the passwords that it may hold."""
    # Imported here: help and most commands need neither engines nor databases.
    from tickertape.clients.engines.choose import shown as shown_engine
    from tickertape.server.store.database import shown_place

    if name == "engines":
        return tuple(shown_engine(spec) for spec in value)
    return shown_place(value) if name == "db" else value


def _environment(environ: Mapping[str, str]) -> dict[str, Any]:
    source = EnvSettingsSource(Settings)
    source.env_vars = {name.lower(): value for name, value in environ.items()}
    return _read(source, "the environment")


def _secret_files(folder: str | None) -> dict[str, Any]:
    if folder is None:
        return {}
    if not Path(folder).is_dir():
        raise SettingsError(f"{SECRETS}={folder} is no directory")
    return _read(SecretsSettingsSource(Settings, secrets_dir=folder), folder)


def _toml(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        values = TomlConfigSettingsSource(Settings, toml_file=file)() if file.is_file() else None
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"the settings file {file} cannot be read: {error}") from error
    if values is None:
        raise SettingsError(f"the settings file {file} is not there")
    for name in values:
        if name not in Settings.model_fields:
            raise SettingsError(f"{name} in the file {file} is no setting{_meant(name)}")
    return values


def _read(source: PydanticBaseSettingsSource, where: str) -> dict[str, Any]:
    try:
        return {name: value for name, value in source().items() if name in Settings.model_fields}
    except SourceError as error:
        raise SettingsError(f"{where}: {error}") from error


def _check_variables(environ: Mapping[str, str]) -> None:
    for variable in environ:
        if not variable.startswith(PREFIX) or variable in _OTHERS or variable.startswith(_SERVICE_LINKS):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in Settings.model_fields:
            raise SettingsError(f"the environment variable {variable} is no setting{_meant(name, PREFIX)}")


def _meant(name: str, prefix: str = "") -> str:
    close = get_close_matches(name, Settings.model_fields, 1)
    meant = close[0].upper() if prefix and close else "".join(close)
    return f"; did you mean {prefix}{meant}?" if close else ": tickertape config lists all"


def _explained(found: ErrorDetails, sources: Mapping[str, str]) -> str:
    name = str(found["loc"][0])
    field = Settings.model_fields.get(name)
    secret = field is not None and "Secret" in str(field.annotation)
    value = "" if secret else f" cannot be {found['input']!r:.100}"
    is_service = name == "port" and str(found["input"]).startswith("tcp://")
    link = "; Kubernetes sets it for a service of this name: enableServiceLinks: false" if is_service else ""
    said = found["msg"].replace("Input should be", "it should be")
    return f"{name}{value} ({sources.get(name, 'default')}): {said}{link}"


def _toml_value(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case tuple():
            return "[" + ", ".join(_toml_value(part) for part in value) + "]"
        case _:
            text = str(value).replace("\\", "\\\\").replace('"', '\\"')
            return f'"{text}"'
