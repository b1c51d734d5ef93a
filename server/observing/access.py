"""Around every HTTP request: counts how it was answered."""

from collections.abc import Iterable, Mapping

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tickertape.server.observing.metrics import Metrics

#: What nginx calls a client that went away before there was an answer.
CLIENT_CLOSED = 499


class Access:
    """ASGI middleware.

    Args:
        app: what answers.
        paths: see :func:`paths_of`; a path that a client made up is none of them.
    """

    def __init__(self, app: ASGIApp, paths: Mapping[object, str]) -> None:
        self._app = app
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = CLIENT_CLOSED

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:
            status = 500  # answered further out
            raise
        finally:
            metrics: Metrics = scope["app"].state.service.turns.metrics
            metrics.http_requests.add(1, _method(scope), self._paths.get(scope.get("endpoint"), ""), str(status))


def paths_of(routes: Iterable[BaseRoute]) -> dict[object, str]:
    """For each function that answers, the shortest of its paths, with the names of its parameters."""
    paths: dict[object, str] = {}
    for route in routes:
        assert isinstance(route, Route)  # noqa: S101  (there are no others)
        known = paths.get(route.endpoint)
        if known is None or len(route.path) < len(known):
            paths[route.endpoint] = route.path
    return paths


def _method(scope: Scope) -> str:
    method = str(scope["method"])
    return method if method in _METHODS else "other"


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
