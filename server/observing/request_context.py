"""The HTTP request that is being answered, for those who tell of it: log lines and spans.

It is known in every task that the request started, the one that takes its turns among them.
"""

import re
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tickertape.server.observing.tracing import RequestTrace
    from tickertape.server.trajectories.turn import Turn

#: ``messages[3].content``, ``chat_template_kwargs``.
_PLACE = re.compile(r"[A-Za-z0-9_.\[\]-]{1,100}")


@dataclass(slots=True)
class RequestContext:
    """One HTTP request."""

    request_id: str
    opened: "list[Turn]" = field(default_factory=list)
    """The turns that are taken for it."""
    on_tape: "list[Turn]" = field(default_factory=list)
    """Those of them that are on tape, and so know how they ended."""
    trace: "RequestTrace | None" = None
    error: tuple[str, str | None] | None = None
    """``code`` and ``param`` of the error that it is answered with."""


current_call: ContextVar[RequestContext | None] = ContextVar("current_call", default=None)


def note_opened(*turns: "Turn") -> None:
    """These turns are taken for the request that is being answered, if there is one."""
    if (call := current_call.get()) is not None:
        call.opened += turns


def note_error(code: str, param: str | None) -> None:
    """The request that is being answered is refused, or failed. A place that a client made up, such as the name of an
    unknown field, is kept only if it looks like one."""
    if (call := current_call.get()) is not None:
        call.error = code, param if param is not None and _PLACE.fullmatch(param) else None


def note_on_tape(turn: "Turn", commit_seconds: float) -> None:
    """One of them is on tape; to put it there took so long."""
    if (call := current_call.get()) is not None:
        call.on_tape.append(turn)
        if call.trace is not None:
            call.trace.add_turn(turn, commit_seconds)
