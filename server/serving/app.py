"""The ASGI application."""

from functools import cache, partial
from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Route

from tickertape.server.auth.access import Access, allow
from tickertape.server.auth.guard import RouteRules
from tickertape.server.calls.service import Service
from tickertape.server.errors import InvalidRequest, ProxyError
from tickertape.server.observing.access import paths_of
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
from tickertape.server.serving.front import Front, internal_error, respond
from tickertape.server.serving.openapi import describe

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


def create_app(service: Service) -> Front:
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
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _internal_error)
    plain = agents.ENDPOINTS | responses.ENDPOINTS | google.ENDPOINTS | models.ENDPOINTS
    return Front(app, service, rules, paths_of(routes), plain)


async def _proxy_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProxyError)  # noqa: S101  (registered for this type alone)
    return respond(request, error)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    finding = error.errors()[0]
    place = ".".join(str(part) for part in finding["loc"][1:])
    return respond(request, InvalidRequest(f"{place}: {finding['msg']}", param=place, code="invalid_value"))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    if isinstance(error.__cause__, ProxyError):  # the framework was reading a body, and calls what stopped it its own
        return respond(request, error.__cause__)
    text = f"{request.method} {request.url.path}: {error.detail}"
    answer = InvalidRequest(text, code="not_found" if error.status_code == 404 else "invalid_request")
    answer.status = error.status_code
    return respond(request, answer)


async def _internal_error(request: Request, error: Exception) -> Response:
    return internal_error(request, error)
