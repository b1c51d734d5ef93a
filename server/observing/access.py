"""Around every HTTP request: gives it an id, counts it, logs it, and traces it.

The id is the client's ``X-Request-Id`` if that is one, and a new one else; the answer carries it.
"""

import logging
import re
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Scope, Send

from tickertape.server.ids import new_id
from tickertape.server.observing.metrics import Metrics
from tickertape.server.observing.request_context import RequestContext, current_call

if TYPE_CHECKING:
    from tickertape.server.observing.tracing import RequestTrace, Tracing

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


class ObservedRequest:
    """One HTTP request, observed while the block runs.

    Args:
        metrics: count it.
        tracing: ``None`` where there are no traces.
        paths: see :func:`paths_of`; a path that a client made up is none of them.
        scope: the request's; gets its id.
        headers: of that scope.
    """

    def __init__(
        self,
        metrics: Metrics,
        tracing: "Tracing | None",
        paths: Mapping[object, str],
        scope: Scope,
        headers: Headers,
    ) -> None:
        self._metrics = metrics
        self._paths = paths
        self._scope = scope
        self._context = RequestContext(_request_id(headers))
        scope.setdefault("state", {})["request_id"] = self._context.request_id
        self._status = CLIENT_CLOSED
        self.is_answered = False
        """True once the answer has begun."""
        if scope["path"] in _PROBES:
            tracing = None
        self._tracing = None if tracing is None else tracing.request(self._context, headers)
        self._span: RequestTrace | None = None

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        self._token = current_call.set(self._context)
        if self._tracing is not None:
            self._span = self._tracing.__enter__()
        return self

    def sending(self, send: Send) -> Send:
        """Sends the answer, with the request's id."""
        name = (REQUEST_ID_HEADER.lower().encode(), self._context.request_id.encode())

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._status, self.is_answered = message["status"], True
                message["headers"] = [*message["headers"], name]
            await send(message)

        return sending

    def __exit__(self, *failure: Any) -> None:
        scope, status = self._scope, self._status
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = self._paths.get(scope.get("endpoint"), "")
        self._metrics.http_requests.add(1, method, route, str(status))
        _tell(self._context, method, route or scope["path"], status, time.perf_counter() - self._started)
        if self._span is not None:
            self._span.answered(method, route, status)
        if self._tracing is not None:
            self._tracing.__exit__(*failure)
        current_call.reset(self._token)


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
