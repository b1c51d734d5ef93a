"""Sampled token ids back into a message, as they come or all at once: lossless, never raising on what a model wrote.

There is one way to read a completion, :class:`StreamParser`; reading it completely is feeding it all at once (STREAM).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tickertape.renderers.draft import UNPADDED, Delta, Draft, Padding
from tickertape.renderers.prompt import ParsedResponse
from tickertape.renderers.reasoning import TaggedReasoning, ThoughtAt
from tickertape.renderers.shape import AtMostOne, CallsShape, Perhaps, Shape, white_space
from tickertape.renderers.source import Reading, Source, viable_beginnings
from tickertape.renderers.tokenizer import Tokenizer, as_ids
from tickertape.renderers.tool_calls.offered import Offered
from tickertape.renderers.tool_calls.syntax import CallSyntax

#: Ids that are read at once. Readers look through all the text that is unread: a long completion in one piece would
#: cost the square of its length.
_AT_ONCE = 256


#: In a thought that is never closed, so many openings of calls are tried; each may be looked through to the end.
_MOST_TRIES = 64


@dataclass(frozen=True)
class ResponseFormat:
    """The format in which a family writes an answer: all that parsing needs to know of it."""

    stop_ids: tuple[int, ...] = ()
    reasoning: TaggedReasoning | None = None
    tool_calls: CallSyntax | None = None
    padding: Padding = field(default_factory=Padding)
    starts_in_reasoning: bool = False
    """True if the generation prompt itself opens a thought."""
    behind_calls: str = ""
    """The text that the format writes between the last call and the stop token."""
    silent: tuple[str, ...] = ()
    """Tags around what is said that say nothing themselves (``<|START_RESPONSE|>``)."""

    @property
    def tags(self) -> tuple[str, ...]:
        """The reasoning and tool-call tags."""
        reasoning = self.reasoning.tags if self.reasoning else ()
        return (*reasoning, *(self.tool_calls.tags if self.tool_calls else ()), *self.silent)

    @property
    def speakable(self) -> tuple[str, ...]:
        """Those that mean what they say in an assistant message that a caller supplies; no turn marker is one."""
        return self.tags

    @property
    def thinks(self) -> bool:
        """Returns True if an answer may hold reasoning."""
        return self.reasoning is not None

    @property
    def unfinished_close(self) -> str:
        """Returns what closes a thought that was cut off in the middle."""
        return self.reasoning.unfinished_close if self.reasoning else ""

    def without_calls(self) -> "ResponseFormat":
        """The same, but tool calls stay the text that they are written in."""
        return replace(self, tool_calls=None)

    # How an answer is written, for engines that hold a model to it.

    def thought_shape(self, at: ThoughtAt) -> Shape:
        """Returns the shape of what stands before the answer: a thought that the prompt opened, or one that the model
        may begin."""
        lead = white_space(self.padding.lead_in, most=1)
        if self.reasoning is None or at is ThoughtAt.BEHIND:
            return lead
        opened = at is ThoughtAt.INSIDE
        thought = self.reasoning.shape(opened=opened, between=self.padding.after_thought)
        return thought if opened else (*lead, Perhaps(thought))

    def content_shape(self, content: Shape) -> Shape:
        """An answer that says ``content``, and ends."""
        return (Perhaps((self.padding.lead,)), *content) if self.padding.lead else content

    @property
    def calls_lead(self) -> Shape:
        """Returns the shape of what may stand between the thought and the first call, where nothing is said."""
        return (Perhaps((self.padding.before_calls,)),) if self.padding.before_calls else ()

    def calls_shape(self, name: str, parameters: Mapping[str, Any]) -> CallsShape | None:
        """As :meth:`CallSyntax.shape`; ``None`` also where the model calls no tools."""
        return self.tool_calls.shape(name, parameters) if self.tool_calls else None

    def shape_with_one_call(self, calls: Sequence[Shape]) -> Shape | None:
        """Any answer with at most one of the ``calls``, after which it ends; ``None`` where calls begin without a
        tag, as other words do."""
        opens = self.tool_calls.opens if self.tool_calls else ()
        tag = next((tag for tag in opens if all(str(call[0]).startswith(tag) for call in calls)), None)
        if tag is None:
            return None
        others = [*opens, *((self.reasoning.open,) if self.reasoning else ())]
        return (AtMostOne(tag, tuple(calls), without=tuple(other for other in others if other != tag)),)

    def read(self, source: Source, draft: Draft, offered: Offered) -> Reading[None]:
        """Reads a complete completion, up to its stop token, into ``draft``."""
        reasoning, calls = self.reasoning, self.tool_calls
        opens = calls.opens if calls else ()
        outside = source.marks(*opens, *((reasoning.open,) if reasoning else ()), *self.silent)
        may_be_bare = calls is not None
        if reasoning and self.starts_in_reasoning:
            yield from _think(source, draft, offered, reasoning, calls, label="")
        while True:
            if calls is not None and may_be_bare:
                while (yield from calls.read_bare(source, draft, offered)):
                    pass
            tag = yield from source.copy_until(outside, draft.say)
            if tag is None:
                return
            source.take_tag(tag)
            if reasoning and tag == reasoning.open:
                yield from _think(source, draft, offered, reasoning, calls, label=reasoning.label)
            elif calls is not None and tag in opens:
                yield from calls.read(tag, source, draft, offered)
            may_be_bare = calls is not None and not draft.has_content


def _think(
    source: Source,
    draft: Draft,
    offered: Offered,
    reasoning: TaggedReasoning,
    calls: CallSyntax | None,
    *,
    label: str,
) -> Reading[None]:
    """Reads a thought up to and including the tag that closes it. Models forget that tag in front of a call: where one
    ends its turn in a thought, the thought ends before the first call in it. One that is closed, or was cut off, may
    hold drafts of calls."""
    draft.open_thought()
    close = source.marks(reasoning.close)
    marks = source.marks(reasoning.close, *(calls.opens if calls else ()))
    if label:
        yield from source.head(re.compile(re.escape(label)), viable_beginnings(map(re.escape, label)), close)
    closes_later: bool | None = None  # looked up once: what does not come after one tag comes after none behind it
    tries = 0
    while (tag := (yield from source.copy_until(marks, draft.think))) is not None and tag != reasoning.close:
        if closes_later is None:
            closes_later = yield from source.comes(close)
        if closes_later:
            marks = close
        elif calls and source.stopped and tries < _MOST_TRIES and _begins_call(tag, source, offered, calls):
            draft.close_thought()
            return
        tries += 1
        draft.think(source.take_tag(tag))
    if tag is not None:
        source.take_tag(tag)
        draft.close_thought()


def _begins_call(tag: str, source: Source, offered: Offered, calls: CallSyntax) -> bool:
    """Returns True if a call can be read where ``tag`` stands, in a completion that is all there."""
    place = source.hold()
    source.take_tag(tag)
    tried = Draft(UNPADDED, offered.names)
    for _ in calls.read(tag, source, tried, offered):
        raise RuntimeError("a reader waited for more of a completion that has ended")
    source.put_back(place)
    return any(found.call is not None for found in tried.calls)


class StreamParser:
    """Reads a completion while it is sampled. Feed ids in any chunks; each call gives the deltas that became certain.

    Args:
        tokenizer: the model's.
        format_: how its answers are written.
        offered: the tools that were offered.
    """

    def __init__(self, tokenizer: Tokenizer, format_: ResponseFormat, offered: Offered) -> None:
        self._source = Source(tokenizer, format_.tags, format_.stop_ids)
        self._draft = Draft(format_.padding, offered.names)
        self._reading = format_.read(self._source, self._draft, offered)
        self._going = True
        self._stop_token: int | None = None
        self._rest: list[int] = []
        self._advance()

    def feed(self, token_ids: Sequence[int]) -> list[Delta]:
        """Takes more sampled ids, the stop token included where it was sampled; what comes after it is kept as rest.

        Raises:
            RuntimeError: after :meth:`finish`.
        """
        token_ids = as_ids(token_ids)
        if self._source.ended and self._stop_token is None:
            raise RuntimeError("this completion was finished; a new one needs a new parser")
        for start in range(0, len(token_ids), _AT_ONCE):
            if self._stop_token is not None:
                self._rest.extend(token_ids[start:])
                break
            self._feed(token_ids[start : start + _AT_ONCE])
        return self._draft.take_deltas()

    def _feed(self, token_ids: Sequence[int]) -> None:
        stop_at = self._source.feed(token_ids)
        if stop_at is not None:
            self._stop_token = token_ids[stop_at]
            self._rest.extend(token_ids[stop_at + 1 :])
            self._source.end(stopped=True)
        self._advance()

    def finish(self) -> list[Delta]:
        """No more ids will come: the last deltas."""
        if not self._source.ended:
            self._source.end()
        self._advance()
        self._draft.finish()
        return self._draft.take_deltas()

    @property
    def in_thought(self) -> bool:
        """Returns True if what was read last stands inside a thought."""
        return self._draft.in_thought

    def response(self) -> ParsedResponse:
        """The message as it stands: all deltas that were given, taken together."""
        return ParsedResponse(
            self._draft.message(),
            self._stop_token is not None,
            self._stop_token,
            tuple(self._draft.calls),
            tuple(self._rest),
        )

    def _advance(self) -> None:
        if self._going:
            self._going = next(self._reading, _FINISHED) is not _FINISHED


_FINISHED = object()
