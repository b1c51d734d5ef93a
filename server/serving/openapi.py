"""The OpenAPI document: what FastAPI knows of the routes, completed by what is said beside them (``@described``)."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from http import HTTPStatus
from inspect import cleandoc
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter
from starlette.routing import BaseRoute, Route

from tickertape.server.auth.access import Access, access_of
from tickertape.server.auth.guard import SESSION_HEADER
from tickertape.server.calls.identity import SESSION_ID
from tickertape.server.routes import shapes
from tickertape.server.routes.described import TEXT, Operation, operation_of
from tickertape.server.routes.queries import LISTS, METADATA

JSON = "application/json"
_REF = "#/components/schemas/{model}"
_ID_PATTERN = f"^{SESSION_ID.pattern}$"

_ABOUT = """
Agents' calls of a model, in OpenAI's, Anthropic's and Google's protocols, and what trainers and operators ask. Errors
are in OpenAI's shape; under ``/v1/messages``, and to clients that send ``anthropic-version``, in Anthropic's; under
``/v1beta`` in Google's.
"""


_KEYS = "An API key, where the server asks for one; also as ``x-api-key``. See ``docs/security.md``."


class UndescribedRoute(LookupError):
    """A route that nothing was said of."""


def describe(app: FastAPI, routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """The document.

    Args:
        app: with those routes included.
        routes: FastAPI's and plain ones.

    Raises:
        UndescribedRoute: there is one without ``@described``.
    """
    document = get_openapi(title=app.title, version=app.version, description=cleandoc(_ABOUT), routes=app.routes)
    components = document.setdefault("components", {})
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": _KEYS}}
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's own errors, which are never sent
        schemas.pop(unused, None)
    described = _operations(routes)
    references, definitions = _schemas(described.values())
    schemas.update(definitions)
    for route in routes:
        assert isinstance(route, Route)  # noqa: S101
        known = described[route.endpoint]
        for method in sorted(route.methods or ()):
            operations = document["paths"].setdefault(route.path_format, {})
            _complete(operations.setdefault(method.lower(), _plain(route, method)), route, known, references)
    return document


def _operations(routes: Sequence[BaseRoute]) -> dict[Callable[..., Any], Operation]:
    """Returns what is said of the routes' functions."""
    said = {}
    for route in routes:
        assert isinstance(route, Route)  # noqa: S101
        known = operation_of(route.endpoint)
        if known is None:
            raise UndescribedRoute(f"{route.path} ({route.endpoint.__name__}) has no @described")
        said[route.endpoint] = known
    return said


def _plain(route: Route, method: str) -> dict[str, Any]:
    """Returns what FastAPI would say of a route."""
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
    special = dict(known.special)
    if "requestBody" in operation:
        errors |= {408, 413, 415, 503}
        special[408] = shapes.OpenAIError  # of which protocol it would have been was not read
    for status in sorted(errors):
        shape = special.get(status, known.error)
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
            parameter["schema"] = {"type": "object", "propertyNames": names, "additionalProperties": TEXT}
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


def _schemas(operations: Collection[Operation]) -> tuple[dict[Any, Any], dict[str, Any]]:
    """References to the schemas of all bodies and answers, and the schemas."""
    bodies: set[Any] = {known.body for known in operations if known.body is not None}
    answers: set[Any] = {shapes.OpenAIError, shapes.AnthropicError, shapes.NotReady}
    answers |= {known.error for known in operations}
    answers |= {known.answer for known in operations if known.answer is not None}
    adapters: list[tuple[Any, Any, TypeAdapter[Any]]] = [
        *((kind, "validation", TypeAdapter(kind)) for kind in sorted(bodies, key=lambda kind: kind.__name__)),
        *((kind, "serialization", TypeAdapter(kind)) for kind in sorted(answers, key=lambda kind: kind.__name__)),
    ]
    references, definitions = TypeAdapter.json_schemas(adapters, ref_template=_REF)
    return {kind: reference for (kind, _), reference in references.items()}, definitions["$defs"]
