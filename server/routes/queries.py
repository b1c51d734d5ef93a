"""Query parameters and pieces of bodies as the dataclasses of the layers below.

A parameter that is not known is refused: a filter that is misspelt must not match everything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request

from tickertape.server.errors import InvalidRequest
from tickertape.server.trajectories.options import OptionError

KindT = TypeVar("KindT")

METADATA = "metadata"
LISTS = ("outcomes", "drop_outcomes")


@dataclass(frozen=True, slots=True)
class Shape:
    """The format that is asked for."""

    format: str | None = None


def read_query(request: Request, *kinds: type[Any]) -> list[Any]:
    """One instance of each dataclass, from the parameters that are its fields.

    Lists are separated by commas. ``metadata.KEY=VALUE`` goes into a field ``metadata``; a value that is JSON is taken
    as what it means, any other as a string.

    Raises:
        InvalidRequest: a parameter is no field of any of them, or not of its type.
    """
    places = {field.name: kind for kind in kinds for field in fields(kind)}
    given: dict[type[Any], dict[str, Any]] = {kind: {} for kind in kinds}
    for name, value in request.query_params.multi_items():
        family, dot, key = name.partition(".")
        if dot and family == METADATA and METADATA in places:
            given[places[METADATA]].setdefault(METADATA, {})[key] = json_or_text(value)
        elif name in places and name != METADATA:
            values = given[places[name]]
            if name in LISTS:
                values[name] = (*values.get(name, ()), *(part.strip() for part in value.split(",")))
            else:
                values[name] = value
        else:
            known = ", ".join(sorted(f"{n}.KEY" if n == METADATA else n for n in places))
            raise InvalidRequest(f"there is no parameter {name!r} here; there are: {known}", param=name)
    return [checked(kind, given[kind]) for kind in kinds]


def checked(kind: type[KindT], given: Mapping[str, Any]) -> KindT:
    """An instance of a dataclass from values of any origin.

    Raises:
        InvalidRequest: a value does not fit; the text says which and why.
    """
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    for name in given.keys() - known:
        raise InvalidRequest(f"there is no {name!r} here; there are: {', '.join(sorted(known))}", param=name)
    try:
        return _adapter(kind).validate_python(given)  # type: ignore[arg-type, no-any-return]
    except ValidationError as error:
        finding = error.errors()[0]
        cause = finding.get("ctx", {}).get("error")
        if isinstance(cause, OptionError):
            raise InvalidRequest(str(cause), param=cause.param, code="invalid_value") from error
        param = str(finding["loc"][0]) if finding["loc"] else None
        raise InvalidRequest(f"{param}: {finding['msg']}", param=param, code="invalid_value") from error


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def json_or_text(value: str) -> Any:
    """Returns what a value means if it is JSON; else the value itself."""
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
