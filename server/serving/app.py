"""The ASGI application."""

import logging
from functools import cache, partial
from importlib.metadata import version

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tickertape.server.auth.access import ACCESS, Access, allow
from tickertape.server.auth.browsers import Browsers
from tickertape.server.auth.guard import Guard, RouteRules
from tickertape.server.auth.keyring import Keyring
from tickertape.server.calls.service import Service, service_of
from tickertape.server.dialects.gemini import dialect as gemini
from tickertape.server.dialects.messages import request as messages
from tickertape.server.errors import InvalidRequest, ProxyError, StoreFailed, openai_error
from tickertape.server.http.body_limit import Bodies, BodyLimit
from tickertape.server.observing.access import REQUEST_ID_HEADER, Observed, paths_of, request_id_of
from tickertape.server.observing.request_context import note_error
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
from tickertape.server.serving.direct import Direct
from tickertape.server.serving.openapi import describe
from tickertape.server.store.store import StoreError

ROUTERS = (
    agents.router,
    responses.router,
    google.router,
    models.router,
    tokens.router,
    sessions.router,
    arrays.router,
    leases.router,
    samples.router,
    retention.router,
    engines.router,
    policy.router,
    keys.router,
    health.router,
    metrics.router,
)

_log = logging.getLogger("tickertape")


def create_app(service: Service) -> FastAPI:
    """The proxy as an ASGI application, over a service that is running."""
    app = FastAPI(title="Tickertape", version=version("tickertape"))
    app.state.service = service
    for route in app.routes:  # FastAPI's own, its documentation of the others
        assert isinstance(route, Route)  # noqa: S101
        allow(Access.OPEN)(route.endpoint)
    routes = [route for router in ROUTERS for route in router.routes]
    rules = RouteRules([*app.routes, *routes])
    for router in ROUTERS:
        app.include_router(router)
    app.openapi = cache(partial(describe, app, routes))  # type: ignore[method-assign]
    app.add_exception_handler(ProxyError, _proxy_error)
    app.add_exception_handler(StoreError, _store_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _internal_error)
    app.add_middleware(
        Direct, endpoints=agents.ENDPOINTS | responses.ENDPOINTS | google.ENDPOINTS | models.ENDPOINTS, respond=_respond
    )
    app.add_middleware(BodyLimit, bodies=_bodies, is_long=_is_agents, respond=_respond)
    app.add_middleware(Guard, rules=rules, keyring=_keyring, browsers=_browsers, respond=_respond)
    app.add_middleware(Observed, paths=paths_of(routes))  # the outermost: it sees what the guard refuses, too
    return app


def _bodies(scope: Scope) -> Bodies:
    return service_of(Request(scope)).bodies


def _is_agents(scope: Scope) -> bool:
    return scope.get(ACCESS) is Access.AGENT


def _keyring(scope: Scope) -> Keyring:
    return service_of(Request(scope)).keyring


def _browsers(scope: Scope) -> Browsers:
    return service_of(Request(scope)).browsers


def _respond(request: Request, error: ProxyError) -> Response:
    """In Anthropic's shape to Anthropic's clients, who name their protocol's version; in Google's to Google's; else in
    OpenAI's."""
    note_error(error.code, error.param)
    if gemini.is_spoken(request.url.path, request.headers):
        return Response(
            orjson.dumps(gemini.write_error(error)), error.status, error.headers, media_type="application/json"
        )
    speaks_messages = "anthropic-version" in request.headers or "/v1/messages" in request.url.path
    shape = messages.write_error(error) if speaks_messages else openai_error(error)
    return Response(orjson.dumps(shape), error.status, error.headers, media_type="application/json")


def refusing(error: ProxyError) -> ASGIApp:
    """An application that answers everything with an error."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await _respond(Request(scope), error)(scope, receive, send)

    return refuse


async def _proxy_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProxyError)  # noqa: S101  (registered for this type alone)
    return _respond(request, error)


async def _store_error(request: Request, error: Exception) -> Response:
    return _respond(request, StoreFailed(str(error)))


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    finding = error.errors()[0]
    place = ".".join(str(part) for part in finding["loc"][1:])
    return _respond(request, InvalidRequest(f"{place}: {finding['msg']}", param=place, code="invalid_value"))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    text = f"{request.method} {request.url.path}: {error.detail}"
    answer = InvalidRequest(text, code="not_found" if error.status_code == 404 else "invalid_request")
    answer.status = error.status_code
    return _respond(request, answer)


async def _internal_error(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    answer = _respond(request, ProxyError(f"internal error ({type(error).__name__}); the server's log has the details"))
    answer.headers[REQUEST_ID_HEADER] = request_id_of(request)  # sent from outside of what adds it elsewhere
    return answer
