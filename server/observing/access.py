"""Around every HTTP request: gives it an id, counts it, logs it, and traces it.

The id is the client's ``X-Request-Id`` if that is one, and a new one else; the answer carries it.
"""

import logging
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import Any
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tickertape.server.ids import new_id
from tickertape.server.observing.metrics import Metrics
from tickertape.server.observing.request_context import RequestContext, current_call

REQUEST_ID_HEADER = "X-Request-Id"
#: What nginx calls a client that went away before there was an answer.
CLIENT_CLOSED = 499

_log = logging.getLogger("tickertape.access")
_SANE_ID = re.compile(r"[A-Za-z0-9._:@/+=-]{1,128}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: Of a path that is no route's, in a log line.
_LONGEST_PATH = 200
#: Asked by machines every few seconds.
_PROBES = frozenset({"/health", "/ready", "/metrics"})


class Observed:
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
        started = time.perf_counter()
        service = scope["app"].state.service
        headers = Headers(scope=scope)
        call = RequestContext(_request_id(headers))
        scope.setdefault("state", {})["request_id"] = call.request_id
        name = (REQUEST_ID_HEADER.lower().encode(), call.request_id.encode())
        status = CLIENT_CLOSED

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], name]
            await send(message)

        token = current_call.set(call)
        tracing = None if scope["path"] in _PROBES else service.tracing
        with nullcontext() if tracing is None else tracing.request(call, headers) as span:
            try:
                await self._app(scope, receive, sending)
            except Exception:
                status = 500  # answered further out
                raise
            finally:
                method = scope["method"] if scope["method"] in _METHODS else "other"
                route = self._paths.get(scope.get("endpoint"), "")
                metrics: Metrics = service.turns.metrics
                metrics.http_requests.add(1, method, route, str(status))
                _tell(call, method, route or scope["path"], status, time.perf_counter() - started)
                if span is not None:
                    span.answered(method, route, status)
                current_call.reset(token)


def request_id_of(request: Request) -> str:
    """The id that the request goes by."""
    return str(request.state.request_id)


def paths_of(routes: Iterable[BaseRoute]) -> dict[object, str]:
    """For each function that answers, the shortest of its paths, with the names of its parameters."""
    paths: dict[object, str] = {}
    for route in routes:
        assert isinstance(route, Route)  # noqa: S101  (there are no others)
        known = paths.get(route.endpoint)
        if known is None or len(route.path) < len(known):
            paths[route.endpoint] = route.path
    return paths


def _request_id(headers: Headers) -> str:
    given = headers.get(REQUEST_ID_HEADER, "")
    return given if _SANE_ID.fullmatch(given) else f"req_{new_id()}"


def _tell(call: RequestContext, method: str, route: str, status: int, seconds: float) -> None:
    """A line for the request: what was asked of which turn, how it ended, how long it took, and why it was refused.
    Nothing that was said: of an error its code and the place, not its text. Where there is no route, the path as it
    came, percent-encoded."""
    route = quote(route[:_LONGEST_PATH], safe="/{}:@._-")
    level = logging.DEBUG if route in _PROBES else logging.INFO
    if not _log.isEnabledFor(level):
        return
    fields: dict[str, Any] = {"method": method, "route": route, "status": status, "seconds": round(seconds, 6)}
    if call.error is not None:
        fields["code"], fields["param"] = call.error
    if call.on_tape:
        turn = call.on_tape[0]
        fields |= {"dialect": turn.dialect, "outcome": ",".join(each.outcome.value for each in call.on_tape)}
        if turn.sampling:
            fields |= {"prompt_tokens": turn.usage["prompt_tokens"], "completion_tokens": len(turn.completion)}
        fields |= {f"{phase}_seconds": round(value, 6) for phase, value in turn.timings.items()}
    _log.log(level, "%s %s %d", method, route, status, extra=fields)
