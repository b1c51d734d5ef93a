"""The inputs and answers of a route, said beside it for the OpenAPI document, where FastAPI cannot know it.

Agents' routes are plain ones, which read their bodies themselves; trainers' read their queries themselves and write
their answers as JSON.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

from tickertape.server.auth.guard import SESSION_HEADER
from tickertape.server.calls.calls import MIN_VERSION_HEADER, RESAMPLE_HEADER
from tickertape.server.routes import shapes
from tickertape.server.trajectories.formats import MEDIA_TYPES, Format

EndpointT = TypeVar("EndpointT", bound=Callable[..., Any])

TEXT: dict[str, Any] = {"type": "string"}
BINARY: dict[str, Any] = {"type": "string", "format": "binary"}
#: Error statuses of routes that read or write the tape. Any route may fail.
TAPE = (500, 503)
#: Of those that answer with samples of something that is named.
SAMPLING = (400, 404, 406, *TAPE)
#: Formats of samples beside JSON.
FILES = {
    MEDIA_TYPES[Format.NDJSON]: TEXT,
    MEDIA_TYPES[Format.ARROW]: BINARY,
    MEDIA_TYPES[Format.PARQUET]: BINARY,
}
_OPERATION = "__tickertape_operation__"


@dataclass(frozen=True, slots=True)
class Operation:
    """A route's inputs and answers, beside what FastAPI knows."""

    answer: shapes.Shape = None
    """As JSON; ``None``: nothing that is JSON."""
    errors: Sequence[int] = (500,)
    status: int | None = 200
    """Of success; ``None``: there is none."""
    also: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """Other content types of success, and the schema of each."""
    body: type[BaseModel] | None = None
    """Of a plain route."""
    query: Sequence[type[Any]] = ()
    """The dataclasses that ``read_query`` reads."""
    headers: Sequence[str] = ()
    error: shapes.Shape = shapes.OpenAIError
    special: Mapping[int, shapes.Shape] = field(default_factory=dict)
    """Error statuses that have a shape of their own."""


def described(
    answer: shapes.Shape = None, errors: Sequence[int] = (500,), status: int | None = 200, **more: Any
) -> Callable[[EndpointT], EndpointT]:
    """Says what a route's function takes and answers: see :class:`Operation`. A route without it is an error."""

    def mark(endpoint: EndpointT) -> EndpointT:
        setattr(endpoint, _OPERATION, Operation(answer, errors, status, **more))
        return endpoint

    return mark


def described_call(
    answer: shapes.Shape, body: type[BaseModel], error: shapes.Shape = shapes.OpenAIError
) -> Callable[[EndpointT], EndpointT]:
    """Says it of an agent's call of the model."""
    return described(
        answer,
        (400, 404, 409, 429, 500, 502, 503, 504),
        also={"text/event-stream": TEXT},
        body=body,
        headers=(SESSION_HEADER, RESAMPLE_HEADER, MIN_VERSION_HEADER),
        error=error,
    )


def operation_of(endpoint: Callable[..., Any]) -> Operation | None:
    """Returns what was said of a route's function; ``None`` if nothing was."""
    return getattr(endpoint, _OPERATION, None)
