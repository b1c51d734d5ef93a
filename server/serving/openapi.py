"""The OpenAPI document: what FastAPI knows of the routes, completed by what it does not.

Agents' routes are plain ones, which read their bodies themselves; trainers' read their queries themselves and write
their answers as JSON. ``OPERATIONS`` says of every route what goes in and what may come out, all of it from the types
that the routes use. A route that is not in it is an error.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from inspect import cleandoc
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, TypeAdapter
from starlette.routing import BaseRoute, Route

from tickertape.server.auth.access import Access, access_of
from tickertape.server.auth.guard import SESSION_HEADER
from tickertape.server.auth.keyring import NewKey
from tickertape.server.auth.session_keys import SessionKey
from tickertape.server.calls.calls import MIN_VERSION_HEADER, RESAMPLE_HEADER
from tickertape.server.calls.identity import SESSION_ID
from tickertape.server.dialects.chat.schema import ChatRequest
from tickertape.server.dialects.completions import CompletionRequest
from tickertape.server.dialects.gemini.schema import GenerateRequest
from tickertape.server.dialects.messages.schema import CountRequest, MessagesRequest
from tickertape.server.dialects.responses.schema import ResponsesRequest
from tickertape.server.routes import (
    agents,
    arrays,
    engines,
    google,
    health,
    keys,
    leases,
    metrics,
    models,
    policy,
    responses,
    retention,
    samples,
    sessions,
    tokens,
)
from tickertape.server.routes.queries import LISTS, METADATA, Shape
from tickertape.server.serving import openapi_shapes as shapes
from tickertape.server.store.filters import SessionFilter
from tickertape.server.store.keys import KeyRecord
from tickertape.server.store.leases import LeaseRecord
from tickertape.server.store.retention_cycle import Kept
from tickertape.server.store.rewards import Rewards
from tickertape.server.store.rollouts import Totals
from tickertape.server.store.sessions import SessionRecord
from tickertape.server.trajectories.formats import MEDIA_TYPES, Format
from tickertape.server.trajectories.options import SampleOptions

JSON = "application/json"
_EVENTS = "text/event-stream"
_BINARY: dict[str, Any] = {"type": "string", "format": "binary"}
_TEXT: dict[str, Any] = {"type": "string"}
_REF = "#/components/schemas/{model}"
_ID_PATTERN = f"^{SESSION_ID.pattern}$"

#: Any route may fail. Those that read or write the tape cannot where that is not there.
_TAPE = (500, 503)
_CALL = (400, 404, 409, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Operation:
    """What a route takes and answers, beside what FastAPI knows."""

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
    """What ``read_query`` reads."""
    headers: Sequence[str] = ()
    error: shapes.Shape = shapes.OpenAIError
    special: Mapping[int, shapes.Shape] = field(default_factory=dict)
    """Error statuses that have a shape of their own."""


_STREAMED = {_EVENTS: _TEXT}
_FILES = {
    MEDIA_TYPES[Format.NDJSON]: _TEXT,
    MEDIA_TYPES[Format.ARROW]: _BINARY,
    MEDIA_TYPES[Format.PARQUET]: _BINARY,
}
_OF_CALLS = (SESSION_HEADER, RESAMPLE_HEADER, MIN_VERSION_HEADER)
_SAMPLING = (400, 404, 406, *_TAPE)


def _call(answer: shapes.Shape, body: type[BaseModel], error: shapes.Shape = shapes.OpenAIError) -> Operation:
    return Operation(answer, _CALL, also=_STREAMED, body=body, headers=_OF_CALLS, error=error)


def _of_session(answer: shapes.Shape, *more: int, status: int = 200) -> Operation:
    return Operation(answer, (404, *more, *_TAPE), status)


OPERATIONS: Mapping[Callable[..., Any], Operation] = {
    agents.chat_completions: _call(shapes.ChatCompletion, ChatRequest),
    agents.plain_completions: _call(shapes.Completion, CompletionRequest),
    agents.anthropic_messages: _call(shapes.AnthropicAnswer, MessagesRequest, shapes.AnthropicError),
    agents.count_tokens: Operation(
        shapes.CountedTokens,
        (400, 404, 500),
        body=CountRequest,
        headers=(SESSION_HEADER,),
        error=shapes.AnthropicError,
    ),
    agents.alive: Operation(shapes.Alive),
    models.models: Operation(shapes.AnyModels, (500, 503), error=shapes.AnyError),
    models.model: Operation(shapes.AnyModel, (404, 500, 503), error=shapes.AnyError),
    responses.create: _call(shapes.ResponseObject, ResponsesRequest),
    responses.count_input: Operation(
        shapes.CountedInput, (400, 404, 500), body=ResponsesRequest, headers=(SESSION_HEADER,)
    ),
    responses.compact: Operation(status=None, errors=(400, 500)),
    responses.retrieve: Operation(shapes.ResponseObject, (400, 404, *_TAPE), headers=(SESSION_HEADER,)),
    responses.delete: Operation(shapes.DeletedResponse, (400, 404, *_TAPE), headers=(SESSION_HEADER,)),
    responses.cancel: Operation(status=None, errors=(400, 404, *_TAPE), headers=(SESSION_HEADER,)),
    responses.list_input: Operation(shapes.InputItems, (400, 404, *_TAPE), headers=(SESSION_HEADER,)),
    google.call_model: _call(shapes.GeminiAnswerOrCount, GenerateRequest, shapes.AnyError),
    metrics.metrics: Operation(also={"text/plain": _TEXT, "application/openmetrics-text": _TEXT}),
    tokens.tokenize: Operation(shapes.Tokenized, (400, 404, 500), body=tokens.TokenizeRequest),
    tokens.detokenize: Operation(shapes.Detokenized, (400, 404, 500), body=tokens.DetokenizeRequest),
    sessions.create_session: Operation(sessions.CreatedSession, (400, 409, *_TAPE), 201),
    sessions.create_session_key: _of_session(SessionKey, 400, 409, status=201),
    sessions.list_sessions: Operation(shapes.SessionPage, (400, *_TAPE), query=(SessionFilter, sessions.Page)),
    sessions.get_session: _of_session(SessionRecord),
    sessions.change_session: _of_session(SessionRecord, 400),
    sessions.finish_session: _of_session(SessionRecord, 409),
    sessions.discard_session: _of_session(SessionRecord, 409),
    sessions.delete_session: _of_session(None, 409, status=204),
    sessions.reward_session: _of_session(Rewards, 400),
    sessions.get_rewards: _of_session(Rewards),
    sessions.get_turns: _of_session(shapes.Turns, 400),
    arrays.get_array: Operation(errors=(404, *_TAPE), also={"application/octet-stream": _BINARY}),
    samples.get_samples: Operation(shapes.SessionSamples, _SAMPLING, also=_FILES, query=(SampleOptions, Shape)),
    samples.list_samples: Operation(
        shapes.SamplePage,
        (400, 406, *_TAPE),
        also=_FILES,
        query=(SessionFilter, SampleOptions, samples.Page, Shape),
    ),
    samples.summarise_samples: Operation(Totals, (400, *_TAPE), query=(SessionFilter, samples.After)),
    leases.take_lease: Operation(shapes.Leased, (400, 406, *_TAPE), also=_FILES, query=(Shape,)),
    leases.get_lease: Operation(LeaseRecord, (404, *_TAPE)),
    leases.get_leased_samples: Operation(shapes.LeasedAgain, (*_SAMPLING, 409), also=_FILES, query=(Shape,)),
    leases.ack_lease: Operation(LeaseRecord, (400, 404, 409, *_TAPE)),
    leases.release_lease: Operation(LeaseRecord, (400, 404, 409, *_TAPE)),
    leases.extend_lease: Operation(LeaseRecord, (400, 404, 409, *_TAPE)),
    retention.apply_retention: Operation(Kept, (400, *_TAPE)),
    engines.list_engines: Operation(shapes.Engines),
    engines.add_engine: Operation(shapes.EngineShown, (400, 409, 500, 502), 201),
    engines.remove_engine: Operation(None, (400, 404, 409, 500, 502), 204, query=(engines.Removal,)),
    engines.confirm_version: Operation(shapes.EngineShown, (400, 404, 409, 500, 502)),
    policy.get_policy: Operation(shapes.PolicyShown),
    policy.set_policy: Operation(shapes.PolicyShown, (400, 500)),
    policy.pause: Operation(shapes.PolicyChanged, (400, 409, 500)),
    policy.resume: Operation(shapes.PolicyChanged, (400, 500)),
    keys.create_key: Operation(NewKey, (400, *_TAPE), 201),
    keys.get_keys: Operation(shapes.Keys, _TAPE),
    keys.revoke_key: Operation(KeyRecord, (404, *_TAPE)),
    health.health: Operation(shapes.Status),
    health.ready: Operation(shapes.Status, (500, 503), special={503: shapes.NotReady}),
}

_ABOUT = """
Agents' calls of a model, in OpenAI's, Anthropic's and Google's protocols, and what trainers and operators ask. Errors
are in OpenAI's shape; under ``/v1/messages``, and to clients that send ``anthropic-version``, in Anthropic's; under
``/v1beta`` in Google's.
"""


_KEYS = "An API key, where the server asks for one; also as ``x-api-key``. See ``docs/security.md``."


class UndescribedRoute(LookupError):
    """A route that ``OPERATIONS`` does not have."""


def describe(app: FastAPI, routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """The document.

    Args:
        app: with those routes included.
        routes: FastAPI's and plain ones.

    Raises:
        UndescribedRoute: there is one that is not in ``OPERATIONS``.
    """
    document = get_openapi(title=app.title, version=app.version, description=cleandoc(_ABOUT), routes=app.routes)
    components = document.setdefault("components", {})
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": _KEYS}}
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's own errors, which are never sent
        schemas.pop(unused, None)
    references, definitions = _schemas()
    schemas.update(definitions)
    for route in routes:
        assert isinstance(route, Route)  # noqa: S101
        known = OPERATIONS.get(route.endpoint)
        if known is None:
            raise UndescribedRoute(f"{route.path} ({route.endpoint.__name__}) is not in OPERATIONS")
        for method in sorted(route.methods or ()):
            operations = document["paths"].setdefault(route.path_format, {})
            _complete(operations.setdefault(method.lower(), _plain(route, method)), route, known, references)
    return document


def _plain(route: Route, method: str) -> dict[str, Any]:
    """What FastAPI would say of a route."""
    return {
        "tags": ["agents"],
        "summary": route.endpoint.__name__.replace("_", " ").title(),
        "description": cleandoc(route.endpoint.__doc__ or ""),
        "operationId": f"{route.name}{route.path_format}_{method.lower()}".translate(str.maketrans("/{}", "___")),
    }


def _complete(operation: dict[str, Any], route: Route, known: Operation, references: Mapping[Any, Any]) -> None:
    if known.body is not None:
        content = {JSON: {"schema": references[known.body]}}
        operation["requestBody"] = {"required": True, "content": content}
    parameters = operation.setdefault("parameters", [])
    named = {parameter["name"] for parameter in parameters}  # those that the route's function has as its own
    parameters += [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in route.param_convertors
        if name not in named
    ]
    for parameter in parameters:
        if parameter["name"] == "session_id":
            parameter["schema"] |= {"pattern": _ID_PATTERN}
    parameters += [each for kind in known.query for each in _query(kind)]
    in_path = "session_id" in route.param_convertors
    parameters += [_header(name) for name in known.headers if not (in_path and name == SESSION_HEADER)]
    operation["responses"] = {}
    if known.status is not None:
        content = {JSON: {"schema": references[known.answer]}} if known.answer is not None else {}
        content |= {media_type: {"schema": schema} for media_type, schema in known.also.items()}
        operation["responses"][str(known.status)] = _response(known.status, content)
    # A path parameter that holds a slash, however it is written, is another path.
    errors = {*known.errors, 404} if route.param_convertors else {*known.errors}
    if access_of(route.endpoint) is not Access.OPEN:
        operation["security"] = [{"key": []}]
        errors |= {401, 403}
    for status in sorted(errors):
        shape = known.special.get(status, known.error)
        operation["responses"][str(status)] = _response(status, {JSON: {"schema": references[shape]}})


def _response(status: int, content: dict[str, Any]) -> dict[str, Any]:
    return {"description": HTTPStatus(status).phrase, **({"content": content} if content else {})}


def _header(name: str) -> dict[str, Any]:
    schema = {"type": "string", "pattern": _ID_PATTERN} if name == SESSION_HEADER else {"type": "string"}
    return {"name": name, "in": "header", "required": False, "schema": schema}


def _query(kind: type[Any]) -> Iterator[dict[str, Any]]:
    """The parameters that are a dataclass's fields, as ``read_query`` reads them."""
    schema = TypeAdapter(kind).json_schema()
    for name, given in schema["properties"].items():
        parameter = {"name": name, "in": "query", "required": False, "schema": _sent(given, schema.get("$defs", {}))}
        if name == METADATA:  # its keys are parameters of their own
            names = {"pattern": rf"^{METADATA}\."}
            parameter["schema"] = {"type": "object", "propertyNames": names, "additionalProperties": _TEXT}
            parameter |= {"style": "form", "explode": True}
        elif name in LISTS:
            parameter |= {"style": "form", "explode": False}
        yield parameter


def _sent(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """A field's schema as that of a parameter: there is no null in a query, and it stands alone."""
    if isinstance(schema, list):
        return [_sent(each, definitions) for each in schema if each != {"type": "null"}]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return definitions[schema["$ref"].rpartition("/")[2]]
    plain = {key: _sent(value, definitions) for key, value in schema.items() if (key, value) != ("default", None)}
    only = plain.get("anyOf", ())
    return {**plain.pop("anyOf")[0], **plain} if len(only) == 1 else plain


def _schemas() -> tuple[dict[Any, Any], dict[str, Any]]:
    """References to the schemas of all bodies and answers, and the schemas."""
    bodies: set[Any] = {known.body for known in OPERATIONS.values() if known.body is not None}
    answers: set[Any] = {shapes.OpenAIError, shapes.AnthropicError, shapes.NotReady}
    answers |= {known.error for known in OPERATIONS.values()}
    answers |= {known.answer for known in OPERATIONS.values() if known.answer is not None}
    adapters: list[tuple[Any, Any, TypeAdapter[Any]]] = [
        *((kind, "validation", TypeAdapter(kind)) for kind in sorted(bodies, key=lambda kind: kind.__name__)),
        *((kind, "serialization", TypeAdapter(kind)) for kind in sorted(answers, key=lambda kind: kind.__name__)),
    ]
    references, definitions = TypeAdapter.json_schemas(adapters, ref_template=_REF)
    return {kind: reference for (kind, _), reference in references.items()}, definitions["$defs"]
