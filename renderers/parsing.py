"""Sampled token ids back into a message: lossless, and never raising on what a model wrote."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from tickertape.renderers.messages import Message
from tickertape.renderers.prompt import CallStatus, ParsedCall, ParsedResponse
from tickertape.renderers.reasoning import TaggedReasoning
from tickertape.renderers.tokenizer import Tokenizer
from tickertape.renderers.tool_calls import CallSyntax


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """All that parsing needs to know of a family."""

    stop_ids: tuple[int, ...]
    reasoning: TaggedReasoning | None = None
    tool_calls: CallSyntax | None = None
    starts_in_reasoning: bool = False
    """Whether the generation prompt itself opens a thought."""

    @property
    def tags(self) -> tuple[str, ...]:
        """The reasoning and tool-call tags."""
        reasoning = self.reasoning.tags if self.reasoning else ()
        calls = (self.tool_calls.open, self.tool_calls.close) if self.tool_calls else ()
        return (*reasoning, *calls)


class _Tag(str):
    """A tag that the model wrote as a tag."""

    __slots__ = ()


def parse(
    tokenizer: Tokenizer, format_: ResponseFormat, token_ids: Sequence[int], tool_names: Collection[str] | None = None
) -> ParsedResponse:
    """Parses a completion.

    Args:
        tokenizer: the model's.
        format_: the family's response format.
        token_ids: the sampled ids, stop token included if it was sampled.
        tool_names: the tools that were offered; ``None`` leaves names unchecked.
    """
    ids = list(token_ids)
    stop_at = min((ids.index(i) for i in set(format_.stop_ids).intersection(ids)), default=None)
    body = ids[:stop_at]
    stop = None if stop_at is None else ids[stop_at]
    rest = () if stop_at is None else tuple(ids[stop_at + 1 :])
    reasoning, content, calls = _assemble(format_, list(_segments(tokenizer, format_, body)), tool_names)
    message = Message(
        role="assistant",
        content=content,
        reasoning=reasoning,
        tool_calls=tuple(call.call for call in calls if call.call is not None),
    )
    return ParsedResponse(message, stop is not None, stop, tuple(calls), rest)


def ends_in_reasoning(tokenizer: Tokenizer, format_: ResponseFormat, token_ids: Sequence[int]) -> bool:
    """Whether a completion stops in the middle of a thought."""
    if format_.reasoning is None:
        return False
    inside = format_.starts_in_reasoning
    for segment in _segments(tokenizer, format_, list(token_ids)):
        if isinstance(segment, _Tag) and segment in format_.reasoning.tags:
            inside = segment == format_.reasoning.open
    return inside


def _segments(tokenizer: Tokenizer, format_: ResponseFormat, ids: list[int]) -> Iterator[str]:
    """Text and tags in order. A tag that is a token of the vocabulary is recognised by its id alone: the same
    characters spelled in ordinary tokens are prose. Others are found in the text."""
    by_id = {tokenizer.control[tag]: _Tag(tag) for tag in format_.tags if tag in tokenizer.control}
    spelled = [tag for tag in format_.tags if tag not in tokenizer.control]
    if by_id.keys().isdisjoint(ids):
        yield from _find_spelled(tokenizer.decode(ids), spelled)
        return
    text: list[int] = []
    for i in ids:
        if i in by_id:
            yield from _find_spelled(tokenizer.decode(text), spelled)
            text.clear()
            yield by_id[i]
        else:
            text.append(i)
    yield from _find_spelled(tokenizer.decode(text), spelled)


def _find_spelled(text: str, tags: list[str]) -> Iterator[str]:
    if not tags:
        if text:
            yield text
        return
    for part in re.split(f"({'|'.join(map(re.escape, tags))})", text):
        if part:
            yield _Tag(part) if part in tags else part


def _assemble(
    format_: ResponseFormat, segments: list[str], tool_names: Collection[str] | None
) -> tuple[str | None, str, list[ParsedCall]]:
    """Reasoning, content and calls from text and tags."""
    thought: list[str] = []
    content: list[str] = []
    calls: list[ParsedCall] = []
    reasoning = format_.reasoning
    inside = thinking = format_.starts_in_reasoning and reasoning is not None
    at = 0
    while at < len(segments):
        segment = segments[at]
        at += 1
        tag = segment if isinstance(segment, _Tag) else None
        if reasoning and inside:
            inside = tag != reasoning.close
            if inside:
                thought.append(segment)
        elif reasoning and tag == reasoning.open:
            inside = thinking = True
        elif format_.tool_calls and tag == format_.tool_calls.open:
            end = _end_of_call(segments, at, format_.tool_calls)
            parsed = _read_call(format_.tool_calls, segments[at:end], tool_names)
            calls.append(parsed)
            content.append("" if parsed.call else parsed.raw)
            at = end
        elif content and content[-1]:
            content[-1] += segment
        else:
            content.append(segment)
    said = _join_content(content, bool(calls), lead_in=bool(reasoning and thinking))
    return (reasoning.read("".join(thought)) if reasoning and thinking else None), said, calls


def _end_of_call(segments: list[str], at: int, syntax: CallSyntax) -> int:
    """Index after the closing tag; before a new opening tag, or at the end, where it is missing."""
    for k in range(at, len(segments)):
        if isinstance(segments[k], _Tag):
            if segments[k] == syntax.close:
                return k + 1
            if segments[k] == syntax.open:
                return k
    return len(segments)


def _read_call(syntax: CallSyntax, written: list[str], tool_names: Collection[str] | None) -> ParsedCall:
    closed = bool(written) and isinstance(written[-1], _Tag) and written[-1] == syntax.close
    raw = syntax.open + "".join(written)
    status, call = syntax.read("".join(written[:-1] if closed else written))
    if not closed:
        status = CallStatus.UNCLOSED
    elif call is not None and tool_names is not None and call.name not in tool_names:
        status = CallStatus.UNKNOWN_TOOL
    return ParsedCall(status, raw, call)


def _join_content(parts: list[str], has_calls: bool, *, lead_in: bool) -> str:
    """What was said around the calls: each newline next to a call's tag is the format's, the rest is kept."""
    if lead_in and parts:
        parts[0] = parts[0].lstrip("\n")
    if not has_calls:
        return "".join(parts)
    around = []
    for k, part in enumerate(parts):
        if k + 1 < len(parts):
            part = part.removesuffix("\n")
        if k > 0:
            part = part.removeprefix("\n")
        if part:
            around.append(part)
    return "\n".join(around)
