"""The ASGI application."""

import logging

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from tickertape.server.errors import InvalidRequest, ProxyError, StoreFailed, openai_error
from tickertape.server.routes import (
    agents,
    arrays,
    engines,
    health,
    leases,
    policy,
    retention,
    samples,
    sessions,
    tokens,
)
from tickertape.server.service import Service
from tickertape.server.store.store import StoreError

_log = logging.getLogger("tickertape")


def create_app(service: Service) -> FastAPI:
    """The proxy as an ASGI application, over a service that is running."""
    app = FastAPI(title="Tickertape")
    app.state.service = service
    for routes in (agents, tokens, sessions, arrays, leases, samples, retention, engines, policy, health):
        app.include_router(routes.router)
    app.add_exception_handler(ProxyError, _proxy_error)
    app.add_exception_handler(StoreError, _store_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _internal_error)
    return app


def _respond(error: ProxyError, status: int | None = None) -> Response:
    return Response(orjson.dumps(openai_error(error)), status or error.status, media_type="application/json")


async def _proxy_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ProxyError)  # noqa: S101  (registered for this type alone)
    return _respond(error)


async def _store_error(_request: Request, error: Exception) -> Response:
    return _respond(StoreFailed(str(error)))


async def _validation_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    finding = error.errors()[0]
    place = ".".join(str(part) for part in finding["loc"][1:])
    return _respond(InvalidRequest(f"{place}: {finding['msg']}", param=place, code="invalid_value"))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    text = f"{request.method} {request.url.path}: {error.detail}"
    return _respond(InvalidRequest(text, code="not_found" if error.status_code == 404 else None), error.status_code)


async def _internal_error(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _respond(ProxyError(f"internal error ({type(error).__name__}); the server's log has the details"))
