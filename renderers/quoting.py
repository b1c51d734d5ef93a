"""Control-token text in messages, hidden from a Jinja template and shown again afterwards.

A template mixes its own markup with the messages' words in one string. Before rendering, each control token that a
message *spells* is replaced by one private-use character; after rendering, every control token in the string is the
template's own, and the private-use characters become ordinary text again (NO-FORGERY).
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tickertape.renderers.messages import Message, Tool, ToolCall

#: Unicode's two supplementary private-use areas, and what finds a character of each.
_PLANES = {0xF0000: re.compile("[\U000f0000-\U000ffffd]"), 0x100000: re.compile("[\U00100000-\U0010fffd]")}
_MOST_TOKENS = 0xE000  # of an area's 65,534 characters; attribution and the derived bridge use the rest


class Quoter:
    """Quotes and unquotes for one vocabulary.

    Args:
        control: texts of all control tokens.
        tags: those that an assistant's own words may spell: reasoning and tool-call tags.
    """

    def __init__(self, control: Collection[str], tags: Collection[str]) -> None:
        tokens = sorted(control, key=len, reverse=True)
        if len(tokens) > _MOST_TOKENS:
            raise ValueError(f"{len(tokens)} control tokens are more than can be quoted ({_MOST_TOKENS})")
        self._tokens = tokens
        self._number = {token: k for k, token in enumerate(tokens)}
        self._pattern = _any_of(tokens)
        self._turn_pattern = _any_of([token for token in tokens if token not in set(tags)])

    def plane_for(self, messages: Sequence[Message], tools: Sequence[Tool] | None) -> int:
        """A private-use area that none of the messages uses.

        Raises:
            ValueError: both are in use.
        """
        texts = [text for text in _texts([[m.to_openai() for m in messages], tools]) if not text.isascii()]
        for plane, used in _PLANES.items():
            if not any(used.search(text) for text in texts):
                return plane
        raise ValueError("the messages use characters of both supplementary private-use areas (U+F0000, U+100000)")

    def quote(self, message: Message, plane: int) -> Message:
        pattern = self._turn_pattern if message.role == "assistant" else self._pattern

        def text(value: str | None) -> str | None:
            return None if value is None else self._hide(value, pattern, plane)

        return replace(
            message,
            content=text(message.content),
            reasoning=text(message.reasoning),
            tool_calls=tuple(
                ToolCall(
                    self._hide(call.name, pattern, plane),
                    self._deep(call.arguments, pattern, plane),
                    text(call.id),
                )
                for call in message.tool_calls
            ),
            tool_call_id=text(message.tool_call_id),
            name=text(message.name),
        )

    def quote_tool(self, tool: Tool, plane: int) -> dict[str, Any]:
        quoted: dict[str, Any] = self._deep(tool, self._pattern, plane)
        return quoted

    def unquote(self, text: str, plane: int) -> str:
        """The text with every hidden token spelled out."""
        if text.isascii():
            return text
        return "".join(
            self._tokens[ord(char) - plane] if plane <= ord(char) < plane + len(self._tokens) else char for char in text
        )

    def _hide(self, text: str, pattern: re.Pattern[str], plane: int) -> str:
        return pattern.sub(lambda match: chr(plane + self._number[match.group()]), text)

    def _deep(self, value: Any, pattern: re.Pattern[str], plane: int) -> Any:
        if isinstance(value, str):
            return self._hide(value, pattern, plane)
        if isinstance(value, Mapping):
            return {self._deep(k, pattern, plane): self._deep(v, pattern, plane) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self._deep(item, pattern, plane) for item in value]
        return value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(list(value.items()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _any_of(tokens: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, tokens)) or r"(?!)")
