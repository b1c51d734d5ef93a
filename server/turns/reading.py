"""The reading of what is sampled, as it comes: deltas for a client that reads along, and in the end the message.

The message is the deltas taken together (STREAM), however they were cut, so there is one way to read an answer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tickertape.renderers.draft import CallDelta, ContentDelta, Delta, ReasoningDelta
from tickertape.renderers.messages import Message
from tickertape.renderers.parsing import StreamParser
from tickertape.renderers.prompt import CallStatus, ParsedResponse
from tickertape.renderers.renderer import Renderer
from tickertape.server.trajectories.turn import Outcome, TokenIds, Turn
from tickertape.server.turns.request import TurnRequest


@dataclass(frozen=True, slots=True)
class Read:
    """A completion, read."""

    told: Message
    """The message that the client gets: of an answer that was cut before and goes on, only what is new."""
    repeated: Message
    """The complete answer, as the client will repeat it in its next request."""
    parts: list[Delta]
    """The client's message in the order in which it was said: a thought, a text or a call in one piece each."""


class AnswerReader:
    """Reads one turn's completion.

    Args:
        turn: the turn; its calls and outcome are set when it is read.
        renderer: of its template options.
        request: the request; where it continues an answer, this answer is its last message.
        answered: what was sampled of that answer before.
        prompt_end: the last tokens of the prompt after which the answer began.
    """

    def __init__(
        self,
        turn: Turn,
        renderer: Renderer,
        request: TurnRequest,
        *,
        answered: TokenIds,
        prompt_end: Sequence[int],
    ) -> None:
        reads_calls = request.tool_choice.reads_calls

        def parser() -> StreamParser:
            if request.prompt is not None:
                return renderer.text_parser()
            return renderer.stream_parser(request.tools, read_calls=reads_calls, prompt_ids=prompt_end)

        self._turn = turn
        self._request = request
        self._parser = parser()
        self._continues = bool(len(answered))
        self._parts: list[tuple[type[ContentDelta] | type[ReasoningDelta] | int, list[str]]] = []
        """Texts by their kind and calls by their index, in the order in which they came."""
        self.reasoning_tokens = 0
        said = _read_whole(parser(), answered) if self._continues else Message("assistant")
        self._content = _Channel(request.sampling.stop, said.text)
        self._reasoning = _Channel(request.sampling.stop, said.reasoning or "")
        # A call that was cut off, and so not sent before, is sent now.
        self._untold = self._tell(self._parser.feed(answered.tolist())) if self._continues else []

    def feed(self, token_ids: Sequence[int]) -> list[Delta]:
        """Takes more sampled ids; returns what can be sent to the client now."""
        deltas = self._tell(self._parse(token_ids))
        if self._untold:
            deltas, self._untold = [*self._untold, *deltas], []
        self._note(deltas)
        return deltas

    @property
    def has_thought_enough(self) -> bool:
        """Returns True if the thought that is being read has come to its limit."""
        limit = self._request.thought_tokens
        return limit is not None and self._parser.in_thought and self.reasoning_tokens >= limit

    def finish(self) -> tuple[list[Delta], Read]:
        """The completion, and what ended it, is on the turn: the last deltas, and all of it."""
        turn = self._turn
        stop = turn.stop_reason if isinstance(turn.stop_reason, str) else None
        deltas = [*self._untold, *self._tell(self._parser.finish())]
        deltas += [ReasoningDelta(text)] if (text := self._reasoning.finish(stop)) else []
        deltas += [ContentDelta(text)] if (text := self._content.finish(stop)) else []
        self._note(deltas)
        parsed = self._parser.response()
        turn.calls = [{"status": call.status, "raw": call.raw} for call in parsed.calls]
        turn.outcome = _outcome(turn, parsed)
        calls = tuple(replace(call, id=call.id or self._call_id(k)) for k, call in enumerate(parsed.tool_calls))
        told = replace(
            parsed.message,
            content=None if parsed.message.content is None else self._content.told(or_none=self._continues),
            reasoning=None if parsed.message.reasoning is None else self._reasoning.told(or_none=self._continues),
            tool_calls=calls,
        )
        parts = list(self._whole_parts(told))
        if not self._continues:
            return deltas, Read(told, told, parts)
        return deltas, Read(told, replace(told, content=self._request.messages[-1].text + told.text), parts)

    def _parse(self, token_ids: Sequence[int]) -> list[Delta]:
        if not self._request.counts_reasoning:
            return self._parser.feed(token_ids)
        deltas: list[Delta] = []
        for token_id in token_ids:
            deltas += self._parser.feed([token_id])
            self.reasoning_tokens += self._parser.in_thought
        return deltas

    def _note(self, deltas: Sequence[Delta]) -> None:
        for delta in deltas:
            kind = delta.index if isinstance(delta, CallDelta) else type(delta)
            if not self._parts or self._parts[-1][0] != kind:
                self._parts.append((kind, []))
            if not isinstance(delta, CallDelta):
                self._parts[-1][1].append(delta.text)

    def _whole_parts(self, told: Message) -> Iterator[Delta]:
        for kind, texts in self._parts:
            if isinstance(kind, int):
                call = told.tool_calls[kind]
                yield CallDelta(kind, call.arguments_json, call.name, call.id)
            else:
                yield kind("".join(texts))

    def _tell(self, deltas: Sequence[Delta]) -> list[Delta]:
        """Returns deltas as the client gets them: without what it got before, nor the beginning of a stop string."""
        told: list[Delta] = []
        for delta in deltas:
            match delta:
                case ContentDelta(text):
                    told += _flushed(self._reasoning, ReasoningDelta)
                    told += [ContentDelta(new)] if (new := self._content.push(text)) else []
                case ReasoningDelta(text):
                    told += _flushed(self._content, ContentDelta)
                    told += [ReasoningDelta(new)] if (new := self._reasoning.push(text)) else []
                case CallDelta(index=index, name=name):
                    told += _flushed(self._reasoning, ReasoningDelta) + _flushed(self._content, ContentDelta)
                    # A model that writes ids itself is to read them again with the results.
                    unnamed = name is not None and not delta.id
                    told.append(replace(delta, id=self._call_id(index)) if unnamed else delta)
        return told

    def _call_id(self, index: int) -> str:
        return f"call_{self._turn.id[:16]}{index:02}"


def as_recorded(message: Message) -> dict[str, Any]:
    """An answer's message in OpenAI's chat shape, as chat's clients get it and as it stands on tape."""
    written: dict[str, Any] = {"role": "assistant", "content": message.content, "refusal": None}
    if message.reasoning is not None:
        written["reasoning_content"] = message.reasoning
    if message.tool_calls:
        written["content"] = message.content or None
        written["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments_json}}
            for call in message.tool_calls
        ]
    return written


class _Channel:
    """One kind of text on its way to the client.

    Args:
        stop: stop strings, which OpenAI's answers leave out, while the tape keeps them.
        said: what the client got of the answer that this one continues.
    """

    def __init__(self, stop: Sequence[str], said: str) -> None:
        self._stop = stop
        self._said = said
        self._held = ""
        self._told: list[str] = []

    def push(self, text: str) -> str:
        """Takes more of it; returns what can be sent now."""
        if self._said:
            text = self._beyond_said(text)
        if not self._stop:
            self._told.append(text)
            return text
        text = self._held + text
        at = min((k for k in map(text.find, self._stop) if k >= 0), default=len(text) - self._may_begin(text))
        return self._split(text, at)

    def flush(self) -> str:
        """Another kind of text follows: the beginning of a stop string is none, as it is not continued."""
        whole = any(stop in self._held for stop in self._stop)
        return "" if whole else self._split(self._held, len(self._held))

    def finish(self, stop: str | None) -> str:
        """The end, and the stop string that made it; gives the rest, up to that."""
        at = self._held.rfind(stop) if stop is not None else -1
        rest = self._split(self._held, len(self._held) if at < 0 else at)
        self._held = ""
        return rest

    def told(self, *, or_none: bool) -> str | None:
        """Returns all that was sent; an answer that goes on may have nothing new."""
        return "".join(self._told) or (None if or_none else "")

    def _split(self, text: str, at: int) -> str:
        told, self._held = text[:at], text[at:]
        if told:
            self._told.append(told)
        return told

    def _beyond_said(self, text: str) -> str:
        # They part early where the text was cut inside a character, which cannot be taken back.
        pairs = enumerate(zip(text, self._said, strict=False))
        common = next((k for k, (new, old) in pairs if new != old), min(len(text), len(self._said)))
        self._said = self._said[common:] if common == len(text) else ""
        return text[common:]

    def _may_begin(self, text: str) -> int:
        """Returns how many characters at the end may be the beginning of a stop string."""
        longest = max(map(len, self._stop)) - 1
        ends = range(min(longest, len(text)), 0, -1)
        return next((n for n in ends if any(stop.startswith(text[-n:]) for stop in self._stop)), 0)


def _flushed(channel: _Channel, kind: type[ContentDelta] | type[ReasoningDelta]) -> list[Delta]:
    text = channel.flush()
    return [kind(text)] if text else []


def _read_whole(parser: StreamParser, token_ids: TokenIds) -> Message:
    parser.feed(token_ids.tolist())
    parser.finish()
    return parser.response().message


def _outcome(turn: Turn, parsed: ParsedResponse) -> Outcome:
    if turn.finish_reason == "length":
        return Outcome.LENGTH
    if not parsed.calls:
        return Outcome.STOP
    invalid = (CallStatus.INVALID_JSON, CallStatus.MALFORMED)
    readable = any(call.call is not None and call.status not in invalid for call in parsed.calls)
    return Outcome.TOOL_CALLS if readable else Outcome.PARSE_FAILED
