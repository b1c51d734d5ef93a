"""The handling of every request before a route sees it, in one place.

It is observed, its caller is admitted, and what is read of its body is bounded. Errors become answers here, whatever
raised them.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping

import orjson
from fastapi import FastAPI, Request, Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from tickertape.server.auth.access import Access
from tickertape.server.auth.guard import RouteRules, admit
from tickertape.server.calls.service import Service
from tickertape.server.dialects.gemini import dialect as gemini
from tickertape.server.dialects.messages import request as messages
from tickertape.server.errors import ProxyError, openai_error
from tickertape.server.http.body_limit import BoundedBody
from tickertape.server.observing.access import ObservedRequest
from tickertape.server.observing.request_context import note_error

#: A route's function that takes a request and reads all that it needs from it itself.
Plain = Callable[[Request], Awaitable[Response]]

_log = logging.getLogger("tickertape")


class Front:
    """The ASGI application.

    Args:
        framework: answers all routes but the plain ones.
        service: what they are served by.
        rules: who may call which route.
        paths: see :func:`tickertape.server.observing.access.paths_of`.
        plain: agents' calls. They are answered without the framework's own layers, which would cost a tenth of a turn
            and of each event of a stream.
    """

    def __init__(
        self,
        framework: FastAPI,
        service: Service,
        rules: RouteRules,
        paths: Mapping[object, str],
        plain: frozenset[Plain],
    ) -> None:
        self.framework = framework
        self._service = service
        self._rules = rules
        self._paths = paths
        self._plain = plain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.framework(scope, receive, send)
            return
        scope["app"] = self.framework  # where Starlette's requests look for it
        # A copy: what is judged is what is answered, whatever a client adds while its body comes.
        scope["headers"] = [*scope["headers"]]
        headers = Headers(scope=scope)
        service = self._service
        with ObservedRequest(service.turns.metrics, service.tracing, self._paths, scope, headers) as observed:
            sending = observed.sending(send)
            try:
                response = await self._answer(scope, headers, receive, sending)
            except ProxyError as error:
                response = respond(Request(scope), error)
            except Exception as error:
                if observed.is_answered:
                    raise
                response = internal_error(Request(scope), error)
            if response is not None:
                await response(scope, receive, sending)

    async def _answer(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> Response | None:
        """Answers an admitted request; ``None`` if the framework has sent the answer."""
        access, endpoint = await admit(scope, headers, self._rules, self._service.keyring, self._service.browsers)
        with BoundedBody(self._service.bodies, headers, receive, is_long=access is Access.AGENT) as body:
            if endpoint not in self._plain:
                await self.framework(scope, body.receive, send)
                return None
            response: Response = await endpoint(Request(scope, body.receive, send))
        return response


def respond(request: Request, error: ProxyError) -> Response:
    """Writes an error in Anthropic's shape for Anthropic's clients, who name their protocol's version; in Google's for
    Google's; else in OpenAI's."""
    note_error(error.code, error.param)
    if gemini.is_spoken(request.url.path, request.headers):
        shape = gemini.Gemini.write_error(error)
    elif "anthropic-version" in request.headers or "/v1/messages" in request.url.path:
        shape = messages.write_error(error)
    else:
        shape = openai_error(error)
    return Response(orjson.dumps(shape), error.status, error.headers, media_type="application/json")


def internal_error(request: Request, error: Exception) -> Response:
    """Logs what should not have happened, and writes it as an error that tells nothing of what was said."""
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return respond(request, ProxyError(f"internal error ({type(error).__name__}); the server's log has the details"))


def refusing(error: ProxyError) -> ASGIApp:
    """An application that answers everything with an error."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(Request(scope), error)(scope, receive, send)

    return refuse
