"""The ASGI application."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from tickertape.clients.engines.engine import EngineInfo
from tickertape.clients.engines.errors import EngineError
from tickertape.server.assembly import Parts, running_service
from tickertape.server.errors import InvalidRequest, ProxyError, StoreFailed, openai_error
from tickertape.server.routes import agents, health, trainers
from tickertape.server.settings import Settings
from tickertape.server.store.store import StoreError

_log = logging.getLogger("tickertape")


def create_app(
    settings: Settings,
    parts: Parts,
    *,
    on_ready: Callable[[EngineInfo], None] = lambda _: None,
    on_failure: Callable[[Exception], None] = lambda _: None,
) -> FastAPI:
    """The proxy as an ASGI application.

    Args:
        settings: see :class:`Settings`.
        parts: from :func:`tickertape.server.assembly.make_parts`.
        on_ready: called once turns can be taken.
        on_failure: called with what kept the service from starting; the server itself only ends.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        started = False
        try:
            async with running_service(settings, parts) as (service, info):
                app.state.service = service
                on_ready(info)
                started = True
                yield
        except (EngineError, StoreError) as error:
            if started:
                raise
            on_failure(error)
            raise

    app = FastAPI(title="Tickertape", lifespan=lifespan)
    for routes in (agents, trainers, health):
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
