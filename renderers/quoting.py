"""Text of messages that could turn into control tokens, hidden from a Jinja template and shown again afterwards.

A template mixes its own markup with the messages' words in one string, and may cut, strip and join them on the way. So
not whole control tokens are hidden but the *first character of any*: in words from outside each is replaced by a
private-use character (its code point moved into a supplementary plane). Whatever the template does then, a control
token in its output starts with a character of its own; and the private characters become ordinary text again
(NO-FORGERY). Words that are just the inside of a tag (a parameter called ``think``, which a template prints as
``<think>``) are broken the same way. The words of JSON schema itself stay, because templates look things up by them.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tickertape.renderers.messages import Message, Tool, ToolCall

#: What tags are written between.
_BRACKETS = "<>[]{}|/｜"

#: OpenAI's tool fields and JSON schema's keywords and types.
_SCHEMA_WORDS = frozenset(
    """
    type function name description parameters strict properties required items enum const default title format anyOf
    oneOf allOf not $ref $defs definitions additionalProperties pattern minimum maximum minLength maxLength minItems
    maxItems uniqueItems nullable string number integer boolean array object null role content tool_calls arguments id
    """.split()  # noqa: SIM905  (as a list it would take a screen)
)

#: Code points below this can be moved into a plane; attribution and the derived bridge use the plane's rest.
HIDDEN_BELOW = 0xE000

#: Unicode's two supplementary private-use areas, and what finds their characters: as such, escaped by Python's repr()
#: (``\\U000f003c``) or by JSON (a pair of surrogates).
_PLANES = {
    0xF0000: re.compile(r"[\U000f0000-\U000ffffd]|\\U000f[0-9a-f]{4}|\\udb[89ab][0-9a-f]\\ud[c-f][0-9a-f]{2}"),
    0x100000: re.compile(r"[\U00100000-\U0010fffd]|\\U0010[0-9a-f]{4}|\\udb[c-f][0-9a-f]\\ud[c-f][0-9a-f]{2}"),
}


class Quoter:
    """Quotes and unquotes for one vocabulary.

    Args:
        control: texts of all control tokens.
        tags: those that an assistant's own words may spell: reasoning and tool-call tags.

    Raises:
        ValueError: a control token starts with a character outside the basic plane.
    """

    def __init__(self, control: Collection[str], tags: Collection[str]) -> None:
        firsts = {token[0] for token in control if not token[0].isalnum()}
        # Letters are everywhere: of a token that starts with one, only whole occurrences are hidden.
        lettered = sorted((token for token in control if token[0].isalnum()), key=len, reverse=True)
        self._lettered = re.compile("|".join(map(re.escape, lettered))) if lettered else None
        if any(ord(first) >= HIDDEN_BELOW for first in firsts):
            raise ValueError(f"control tokens that start with one of {sorted(firsts)} cannot be quoted")
        self._hidden = {plane: str.maketrans({c: chr(plane + ord(c)) for c in firsts}) for plane in _PLANES}
        self._insides = {token.strip(_BRACKETS) for token in control} - {""}
        #: What a word must start with to complete a token whose first brackets a template has written.
        self._completions = tuple(
            {token[k:].rstrip(_BRACKETS) for token in control for k in range(1, _leading(token) + 1)} - {""}
        )
        self._tags = re.compile(f"({'|'.join(map(re.escape, sorted(tags, key=len, reverse=True)))})") if tags else None

    def plane_for(self, messages: Sequence[Message], tools: Sequence[Tool] | None) -> int:
        """A private-use area that none of the messages uses.

        Raises:
            ValueError: both are in use.
        """
        texts = list(_texts([[m.to_openai() for m in messages], tools]))
        for plane, used in _PLANES.items():
            if not any(used.search(text) for text in texts):
                return plane
        raise ValueError("the messages use characters of both supplementary private-use areas (U+F0000, U+100000)")

    def quote(self, message: Message, plane: int) -> Message:
        calls = (
            ToolCall(self._name(c.name, plane), self._deep(c.arguments, plane), self._text(c.id, plane))
            for c in message.tool_calls
        )
        said = self._said if message.role == "assistant" else self._text
        return replace(
            message,
            content=said(message.content, plane),
            reasoning=said(message.reasoning, plane),
            tool_calls=tuple(calls),
            tool_call_id=self._text(message.tool_call_id, plane),
            name=self._text(message.name, plane),
        )

    def quote_tool(self, tool: Tool, plane: int) -> dict[str, Any]:
        quoted: dict[str, Any] = self._deep(tool, plane)
        return quoted

    def unquote(self, text: str, plane: int) -> str:
        """The text with every hidden character shown, also where the template escaped it."""
        return _PLANES[plane].sub(lambda match: chr(_code_point(match.group()) - plane), text)

    def _text(self, text: str | None, plane: int) -> str | None:
        return None if text is None else self._hide(text, plane)

    def _said(self, text: str | None, plane: int) -> str | None:
        """An assistant's words, whose tags mean what they say."""
        if text is None or self._tags is None:
            return self._text(text, plane)
        parts = self._tags.split(text)  # words and tags in turn
        return "".join(part if k % 2 else self._hide(part, plane) for k, part in enumerate(parts))

    def _hide(self, text: str, plane: int) -> str:
        if text in _SCHEMA_WORDS:
            return text
        hidden = text.translate(self._hidden[plane])
        if self._lettered is not None:
            hidden = self._lettered.sub(lambda match: _broken(match.group(), plane), hidden)
        inside = text.strip(_BRACKETS + " \n\t")
        return hidden.replace(inside, _broken(inside, plane)) if inside in self._insides else hidden

    def _name(self, text: str, plane: int) -> str:
        """A key or a name, which templates print between brackets of their own."""
        hidden = self._hide(text, plane)
        if text not in _SCHEMA_WORDS and hidden.startswith(self._completions):
            return _broken(hidden, plane)
        return hidden

    def _deep(self, value: Any, plane: int) -> Any:
        if isinstance(value, str):
            return self._hide(value, plane)
        if isinstance(value, Mapping):
            return {self._name(str(k), plane): self._deep(v, plane) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self._deep(item, plane) for item in value]
        return value


def _leading(token: str) -> int:
    """How many brackets a token starts with."""
    return len(token) - len(token.lstrip(_BRACKETS))


def _broken(word: str, plane: int) -> str:
    """The word with its first character hidden."""
    return chr(plane + ord(word[0])) + word[1:]


def _code_point(written: str) -> int:
    """Of a character that stands as itself, as ``\\Uxxxxxxxx``, or as two ``\\uxxxx`` surrogates."""
    if len(written) == 1:
        return ord(written)
    if written.startswith("\\U"):
        return int(written[2:], 16)
    high, low = int(written[2:6], 16), int(written[8:12], 16)
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(list(value.items()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
