"""Anthropic's messages of content blocks → ours.

Consecutive messages of one role are one, as Anthropic has it. Results of tools come before what the user says in the
same message. An assistant's text blocks are pieces of one text; other texts are lines apart.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, TypeAlias

from tickertape.renderers.messages import Message, ToolCall
from tickertape.server.dialects.invalid_json import as_written
from tickertape.server.dialects.messages.schema import (
    AnthropicMessage,
    MediaBlock,
    RedactedThinkingBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from tickertape.server.dialects.reading import Fields, History, extras, left_out, read_fields
from tickertape.server.errors import InvalidRequest

Content: TypeAlias = str | list[dict[str, Any]]
Placed: TypeAlias = tuple[str, Fields]


def read_history(system: Content | None, messages: Sequence[AnthropicMessage]) -> History:
    """Reads the complete conversation.

    Raises:
        InvalidRequest: a block is of a type that text models cannot read or that its place cannot hold, or has faults.
    """
    history = History()
    if system:
        blocks = list(_blocks(system, "system", _IN_TEXT, history))
        history.messages.append(Message("system", _text(blocks, "\n")))
    for role, run in groupby(enumerate(messages), key=lambda numbered: numbered[1].role):
        blocks = []
        for k, message in run:
            history.ignored += extras(message, f"messages[{k}].")
            blocks += _blocks(message.content, f"messages[{k}].content", _BLOCKS[role], history)
        history.messages += _READ[role](blocks, history)
    return history


def _system(blocks: list[Placed], _history: History) -> Iterator[Message]:
    yield Message("system", _text(blocks, "\n"))


def _user(blocks: list[Placed], history: History) -> Iterator[Message]:
    for place, block in blocks:
        if isinstance(block, ToolResultBlock):
            yield _tool_result(place, block, history)
    if any(isinstance(block, TextBlock) for _, block in blocks) or not blocks:
        yield Message("user", _text(blocks, "\n"))


def _tool_result(place: str, block: ToolResultBlock, history: History) -> Message:
    """Models have no word for failure, so an error says so itself."""
    text = _text(list(_blocks(block.content or "", f"{place}.content", _SHOWN, history)), "\n")
    if block.is_error:
        text = f"Error: {text}" if text else "Error"
    return Message("tool", text, tool_call_id=block.tool_use_id)


def _assistant(blocks: list[Placed], _history: History) -> Iterator[Message]:
    thoughts = [block.thinking for _, block in blocks if isinstance(block, ThinkingBlock) and block.thinking]
    calls = [block for _, block in blocks if isinstance(block, ToolUseBlock)]
    yield Message(
        "assistant",
        _text(blocks, ""),
        reasoning="".join(thoughts) if thoughts else None,
        tool_calls=tuple(ToolCall(call.name, as_written(call.input), call.id) for call in calls),
    )


_IN_TEXT: dict[str, type[Fields]] = {"text": TextBlock}
#: What users and tools may show.
_SHOWN: dict[str, type[Fields]] = {**_IN_TEXT, "image": MediaBlock, "document": MediaBlock}
_BLOCKS: dict[str, dict[str, type[Fields]]] = {
    "system": _IN_TEXT,
    "user": {**_SHOWN, "tool_result": ToolResultBlock},
    "assistant": {
        **_IN_TEXT,
        "thinking": ThinkingBlock,
        "redacted_thinking": RedactedThinkingBlock,
        "tool_use": ToolUseBlock,
    },
}
_READ: dict[str, Callable[[list[Placed], History], Iterator[Message]]] = {
    "system": _system,
    "user": _user,
    "assistant": _assistant,
}


def _blocks(content: Content, place: str, known: dict[str, type[Fields]], history: History) -> Iterator[Placed]:
    """Content's blocks, each with its place."""
    if isinstance(content, str):
        yield place, TextBlock(type="text", text=content)
        return
    for k, given in enumerate(content):
        at = f"{place}[{k}]"
        kind = given.get("type")
        model = known.get(kind) if isinstance(kind, str) else None
        if model is None:
            raise InvalidRequest(
                f"{at} is of type {kind!r:.100}, which cannot be read here: the served model reads text, so there may "
                f"be blocks of type {', '.join(known)}",
                param=at,
                code="unsupported_value",
            )
        block = read_fields(model, given, at)
        history.ignored += extras(block, f"{at}.")
        if isinstance(block, MediaBlock):
            yield at, TextBlock(type="text", text=_in_words(block, at, history))
            continue
        if isinstance(block, RedactedThinkingBlock):  # another model's thoughts, which this one cannot read
            history.ignored.append(at)
        yield at, block


def _in_words(block: MediaBlock, place: str, history: History) -> str:
    """A document of plain text is that; of all else the model learns that it was there."""
    source = block.source or {}
    text = source.get("data") if source.get("type") == "text" else None
    return text if isinstance(text, str) else left_out(block.type, place, history.unreadable)


def _text(blocks: Sequence[Placed], between: str) -> str:
    return between.join(block.text for _, block in blocks if isinstance(block, TextBlock))
