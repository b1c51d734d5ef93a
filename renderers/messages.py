"""Messages as agents speak them, in one neutral form.

Every verb of a renderer takes :class:`Message` objects or dicts in OpenAI's chat shape; :func:`as_messages` is the one
place where the second becomes the first.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]
ROLES: frozenset[str] = frozenset(get_args(Role))

#: A tool as OpenAI's chat API declares it: ``{"type": "function", "function": {"name", "description", "parameters"}}``.
#: It stays a plain dict because templates print it as it came, key order included.
Tool: TypeAlias = Mapping[str, Any]

MessageLike: TypeAlias = "Message | Mapping[str, Any]"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a function by the model."""

    name: str
    arguments: str | Mapping[str, Any]
    """JSON text as the model wrote it or a client sent it, or the value that such a text stands for."""
    id: str | None = None

    @property
    def arguments_json(self) -> str:
        """The arguments as JSON text; text that came as text is not re-serialised."""
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments, ensure_ascii=False)

    @property
    def arguments_value(self) -> Any:
        """The arguments as a value; text that is not JSON stays text."""
        if not isinstance(self.arguments, str):
            return self.arguments
        try:
            value = json.loads(self.arguments)
            json.dumps(value, ensure_ascii=False).encode()  # fails for half a surrogate pair, which is no text
        except (ValueError, RecursionError):
            return self.arguments
        return value


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation. ``content=None`` and ``content=""`` are kept apart because some templates do."""

    role: Role
    content: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    @property
    def text(self) -> str:
        """The content, with ``None`` as the empty string."""
        return self.content or ""

    def to_openai(self) -> dict[str, Any]:
        """The message in OpenAI's chat shape, with ``reasoning_content`` as vLLM and SGLang name it; unset keys absent,
        ``content`` always present. Tool call arguments stay what they are, text or value."""
        message: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.reasoning is not None:
            message["reasoning_content"] = self.reasoning
        if self.tool_calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in self.tool_calls
            ]
        if self.tool_call_id is not None:
            message["tool_call_id"] = self.tool_call_id
        if self.name is not None:
            message["name"] = self.name
        return message


def as_messages(messages: Iterable[MessageLike]) -> list[Message]:
    """:class:`Message` objects from any mix of messages and OpenAI-shaped dicts.

    Raises:
        ValueError: a role that does not exist, or a content part that is not text, named by its place.
    """
    return [m if isinstance(m, Message) else _from_openai(m, f"messages[{i}]") for i, m in enumerate(messages)]


def _from_openai(message: Mapping[str, Any], place: str) -> Message:
    role = message.get("role")
    if role not in ROLES:
        raise ValueError(f"{place}.role is {role!r}; it must be one of {', '.join(sorted(ROLES))}")
    reasoning = message.get("reasoning_content")
    if reasoning is None:
        reasoning = message.get("reasoning")
    return Message(
        role=role,
        content=flatten_content(message.get("content"), place),
        reasoning=reasoning,
        tool_calls=tuple(_tool_call(call) for call in message.get("tool_calls") or ()),
        tool_call_id=message.get("tool_call_id"),
        name=message.get("name"),
    )


def flatten_content(content: str | Sequence[Mapping[str, Any]] | None, place: str) -> str | None:
    """Text of a content that is text or a list of text parts; parts are joined by a newline, as vLLM joins them.

    Raises:
        ValueError: a part that is not text, which a text model cannot read.
    """
    if content is None or isinstance(content, str):
        return content
    for i, part in enumerate(content):
        if part.get("type") not in ("text", "refusal"):
            raise ValueError(f"{place}.content[{i}] is of type {part.get('type')!r}; this model reads text parts only")
    return "\n".join(part["text"] if part["type"] == "text" else part["refusal"] for part in content)


def _tool_call(call: Mapping[str, Any]) -> ToolCall:
    function = call.get("function", call)
    return ToolCall(name=function["name"], arguments=function.get("arguments", "{}"), id=call.get("id"))
