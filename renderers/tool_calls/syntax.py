"""The interface of a tool-call syntax.

A syntax never raises on what a model wrote. One rule decides what becomes of a call: once its name is read and its
arguments begin, it is a call, whatever follows, and its status says what is wrong with it; text that does not get that
far stays in the content, as it was written, and is noted with its status.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from tickertape.renderers.draft import Draft
from tickertape.renderers.messages import ToolCall
from tickertape.renderers.pieces import Piece
from tickertape.renderers.prompt import CallStatus
from tickertape.renderers.shape import CallsShape
from tickertape.renderers.source import Marks, Reading, Source
from tickertape.renderers.tool_calls.offered import Offered


class CallSyntax(ABC):
    """One way to write tool calls."""

    padding: str
    """White space that the format puts between calls; see :class:`Padding` for what stands around them."""
    streams_arguments: ClassVar[bool] = True
    """True if arguments are sent while they are written; else a call is sent when it is all there."""

    @property
    @abstractmethod
    def opens(self) -> tuple[str, ...]:
        """Tags that begin a call, or a section of calls, in the content."""

    @property
    @abstractmethod
    def tags(self) -> tuple[str, ...]:
        """All its tags, the opening ones included: what an assistant's own words may spell."""

    @abstractmethod
    def write(self, calls: Sequence[ToolCall]) -> Iterator[Piece]:
        """The calls of one message, as the model would have sampled them."""

    def shape(self, name: str, parameters: Mapping[str, Any]) -> CallsShape | None:  # noqa: ARG002
        """Returns how calls of the tool ``name`` are written, as :meth:`write` does it, their arguments of the JSON
        schema ``parameters``; ``None`` where that cannot be said in the terms of :mod:`tickertape.renderers.shape`."""
        return None

    @abstractmethod
    def read(self, opening: str, source: Source, draft: Draft, offered: Offered) -> Reading[None]:
        """Reads on from the end of the opening tag, up to and including what closes it."""

    def read_bare(self, source: Source, draft: Draft, offered: Offered) -> Reading[bool]:  # noqa: ARG002
        """Reads calls that begin the content without any tag; ``False``, with nothing consumed, where there are none,
        as in most formats."""
        return False
        yield


def read_verbatim(
    status: CallStatus, source: Source, draft: Draft, marks: Marks, close: str, *, opening: str, already: str = ""
) -> Reading[None]:
    """Leaves what cannot be read in the content as it is, up to and including ``close``; another of the ``marks`` ends
    it too, and is left for the next reader.

    Args:
        status: why it cannot be read, if it is closed.
        source: its record was started after the opening tag.
        draft: gets the text.
        marks: what ends it.
        close: the tag that closes it; empty where the format has none.
        opening: the opening tag.
        already: what of the text has been consumed.
    """
    draft.say_verbatim(opening + already)
    tag = yield from source.copy_until(marks, draft.say_verbatim)
    if close and tag == close:
        draft.say_verbatim(source.take_tag(tag))
    closed = not close or tag == close
    draft.note_unreadable(status if closed else CallStatus.UNCLOSED, opening + source.recorded())


def say_call(draft: Draft, call: ToolCall | None, status: CallStatus, raw: str) -> None:
    """Passes on a call that was read when it was all there; ``None``, which cannot be read, stays in the content.

    Args:
        draft: gets it.
        call: the call.
        status: whether it is well formed, or why it cannot be read.
        raw: its text, opening tag included.
    """
    if call is None:
        draft.say_verbatim(raw)
        draft.note_unreadable(status, raw)
    else:
        draft.open_call(call.name, call.id)
        draft.argue(call.arguments_json)
        draft.close_call(status, raw)
