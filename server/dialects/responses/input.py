"""Items of the Responses protocol → messages.

What the model says in one turn comes as several items: reasoning, text, calls. Together they are one assistant's
message, as which the turn is found again. Items of ours say in their ids which turn they are of; others belong together
as long as nothing else stands between them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tickertape.renderers.messages import Message, ToolCall
from tickertape.server.dialects.reading import Fields, History, extras, left_out, read_fields
from tickertape.server.dialects.responses.opaque_reasoning import decode
from tickertape.server.dialects.responses.schema import (
    CallOutputItem,
    CustomCallItem,
    FunctionCallItem,
    ItemReference,
    MessageItem,
    Part,
    ReasoningItem,
)
from tickertape.server.dialects.responses.tools import custom_arguments, flat_name
from tickertape.server.errors import InvalidRequest, NotFound
from tickertape.server.turns.request import PartialAnswer

_ITEMS: Mapping[str, type[Fields]] = {
    "message": MessageItem,
    "reasoning": ReasoningItem,
    "function_call": FunctionCallItem,
    "custom_tool_call": CustomCallItem,
    "function_call_output": CallOutputItem,
    "custom_tool_call_output": CallOutputItem,
    "item_reference": ItemReference,
}
_OWN_ID = re.compile(r"(?P<kind>rs|msg|fc|ctc)_(?P<turn>[0-9a-f]{32})_(?P<index>[0-9]+)")

_AnswerItem: TypeAlias = MessageItem | ReasoningItem | FunctionCallItem | CustomCallItem | ItemReference


def item_id(kind: str, turn_id: str, index: int) -> str:
    """The id of a turn's output item; ``kind`` is ``rs``, ``msg``, ``fc`` or ``ctc``."""
    return f"{kind}_{turn_id}_{index}"


@dataclass(slots=True)
class Input(History):
    """The content of a request's input."""

    partial: dict[int, PartialAnswer] = field(default_factory=dict)
    """Answers that the client sent in part, by their index in ``messages``."""


def read_input(given: str | Sequence[Mapping[str, Any]]) -> Input:
    """The messages that a request's items are.

    Raises:
        InvalidRequest: an item has the wrong shape, or is of a kind that cannot be read.
    """
    if isinstance(given, str):
        return Input([Message("user", given)])
    conversation = _Conversation()
    found = Input()
    for k, item in enumerate(given):
        place = f"input[{k}]"
        read = read_fields(_kind(item, place), item, place)
        found.ignored += _extras(read, f"{place}.")
        match read:
            case CallOutputItem():
                text = _text(read.output, f"{place}.output", unreadable=found.unreadable)
                conversation.entries.append(Message("tool", text, tool_call_id=read.call_id))
            case MessageItem() if read.role != "assistant":
                text = _text(read.content, f"{place}.content", unreadable=found.unreadable)
                conversation.entries.append(Message(read.role, text))
            case MessageItem() | ReasoningItem() | FunctionCallItem() | CustomCallItem() | ItemReference():
                _add(conversation.answer(read, place), read, place)
    for entry in conversation.entries:
        if isinstance(entry, _Answer) and (partial := entry.partial()) is not None:
            found.partial[len(found.messages)] = partial
        found.messages.append(entry if isinstance(entry, Message) else entry.message())
    return found


def _extras(item: Fields, place: str) -> Iterator[str]:
    yield from extras(item, place)
    for name in ("content", "summary", "output"):
        parts = getattr(item, name, None)
        for k, part in enumerate(parts if isinstance(parts, list) else ()):
            yield from extras(part, f"{place}{name}[{k}].")


def _kind(item: Mapping[str, Any], place: str) -> type[Fields]:
    kind = item.get("type") or ("message" if "role" in item else "item_reference")
    model = _ITEMS.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise InvalidRequest(
            f"{place} is of type {kind!r:.100}; there are: {', '.join(_ITEMS)}", param=place, code="unsupported_value"
        )
    return model


@dataclass(slots=True)
class _Answer:
    """An assistant's message as it is put together."""

    turn_id: str | None
    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    ends_in_text: bool = False
    indices: set[int] = field(default_factory=set)
    """Places among the turn's items of those that were sent or referred to, as far as their ids say."""
    references: dict[str, str] = field(default_factory=dict)
    """Kinds of items that are sent by their ids alone, and where each is."""

    def partial(self) -> PartialAnswer | None:
        """Returns what the tape is to complete the message with: what is referred to, and the text that was left
        out."""
        has_gap = len(self.indices) < max(self.indices, default=-1) + 1
        if self.turn_id is None or not (self.references or (has_gap and not self.content)):
            return None
        return PartialAnswer(
            self.turn_id,
            content="msg" in self.references or not self.content,
            calls=not self.references.keys().isdisjoint(("fc", "ctc")),
            reasoning=not self.reasoning,
            param=next(iter(self.references.values()), None),
        )

    def message(self) -> Message:
        content = "".join(self.content) if self.content else None
        reasoning = "".join(self.reasoning) if self.reasoning else None
        return Message("assistant", content, reasoning, tuple(self.calls))


@dataclass(slots=True)
class _Conversation:
    entries: list[Message | _Answer] = field(default_factory=list)

    def answer(self, item: _AnswerItem, place: str) -> _Answer:
        """The answer that an item is a part of."""
        own = _OWN_ID.fullmatch(item.id or "")
        if own is None and isinstance(item, ItemReference):
            raise NotFound(f"{place}: Item with id {item.id!r:.200} not found.", param=place)
        answer = self._answer(item, None if own is None else own["turn"])
        if own is not None:
            answer.indices.add(int(own["index"]))
        if own is not None and isinstance(item, ItemReference):
            answer.references.setdefault(own["kind"], place)
        return answer

    def _answer(self, item: _AnswerItem, turn_id: str | None) -> _Answer:
        behind = next((e for e in reversed(self.entries) if isinstance(e, _Answer) or e.role != "tool"), None)
        if isinstance(behind, _Answer):
            if turn_id is not None and behind.turn_id == turn_id:  # calls may be sent with their results in between
                return behind
            follows_on = behind is self.entries[-1] and not (behind.ends_in_text and isinstance(item, MessageItem))
            if follows_on and None in (turn_id, behind.turn_id):
                behind.turn_id = behind.turn_id or turn_id
                return behind
        answer = _Answer(turn_id)
        self.entries.append(answer)
        return answer


def _add(answer: _Answer, item: _AnswerItem, place: str) -> None:
    answer.ends_in_text = isinstance(item, MessageItem)
    match item:
        case MessageItem():
            answer.content.append(_text(item.content, f"{place}.content", between=""))
        case ReasoningItem():
            text = _reasoning(item, place)
            answer.reasoning += [] if text is None else [text]
        case FunctionCallItem():
            answer.calls.append(ToolCall(flat_name(item.name, item.namespace), item.arguments, item.call_id))
        case CustomCallItem():
            name = flat_name(item.name, item.namespace)
            answer.calls.append(ToolCall(name, custom_arguments(item.input), item.call_id))


def _reasoning(item: ReasoningItem, place: str) -> str | None:
    """Returns the complete text where it is given; else its summary."""
    sealed = None
    if item.encrypted_content is not None:
        try:
            sealed = decode(item.encrypted_content)
        except ValueError as error:
            where = f"{place}.encrypted_content"
            raise InvalidRequest(
                f"{where} cannot be read: {error}", param=where, code="invalid_encrypted_content"
            ) from error
    if item.content:
        return _text(item.content, f"{place}.content", between="")
    return _text(item.summary, f"{place}.summary") if sealed is None and item.summary else sealed


_TEXTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")


#: Types of parts that no text model reads.
_UNREADABLE = {"input_image": "image", "input_file": "file", "input_audio": "audio"}


def _text(
    content: str | Sequence[Part], place: str, between: str = "\n", unreadable: dict[str, str] | None = None
) -> str:
    """The text of parts; where ``unreadable`` is given, those that the model cannot read are noted in it."""
    if isinstance(content, str):
        return content
    texts = []
    for k, part in enumerate(content):
        text = part.text if part.type in _TEXTS else part.refusal if part.type == "refusal" else None
        if part.type in _UNREADABLE and unreadable is not None:
            text = left_out(_UNREADABLE[part.type], f"{place}[{k}]", unreadable)
        if text is None:
            raise InvalidRequest(
                f'{place}[{k}] is of type {part.type!r}; served models read text: {{"type": "input_text", "text": …}}',
                param=f"{place}[{k}]",
                code="unsupported_value",
            )
        texts.append(text)
    return between.join(texts)
