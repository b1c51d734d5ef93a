"""Plain routes answered without the framework's own layers, which would cost a tenth of a turn and of each event."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tickertape.server.auth.guard import MATCHED
from tickertape.server.errors import ProxyError, StoreFailed
from tickertape.server.store.store import StoreError


class Direct:
    """ASGI middleware, the innermost.

    Args:
        app: the framework, for all other routes.
        endpoints: functions that take a request and read all that they need from it themselves.
        respond: an error as an answer, in the protocol of the request.
    """

    def __init__(
        self,
        app: ASGIApp,
        endpoints: frozenset[Callable[[Request], Awaitable[Response]]],
        respond: Callable[[Request, ProxyError], Response],
    ) -> None:
        self._app = app
        self._endpoints = endpoints
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        matched = scope.get(MATCHED)
        if matched is None or matched[0] not in self._endpoints:
            await self._app(scope, receive, send)
            return
        scope["endpoint"], scope["path_params"] = matched
        request = Request(scope, receive, send)
        try:
            response = await matched[0](request)
        except ProxyError as error:
            response = self._respond(request, error)
        except StoreError as error:
            response = self._respond(request, StoreFailed(str(error)))
        await response(scope, receive, send)
