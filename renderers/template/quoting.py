"""Text of messages that could turn into control tokens, hidden from a Jinja template and shown again afterwards.

A template mixes its own markup with the messages' words in one string, and may cut, strip and join them on the way. So
not whole control tokens are hidden but the *first character of any*: in words from outside each is replaced by a
private-use character (its code point moved into a supplementary plane). Whatever the template does then, a control
token in its output starts with a character of its own; and the private characters become ordinary text again
(NO-FORGERY). Words that are just the inside of a tag (a parameter called ``think``, which a template prints as
``<think>``) are broken the same way. The words of JSON schema itself stay, because templates look things up by them.

That is the strict :class:`Manner`. A template may notice it: it sorts keys, asks whether a value holds a ``<``, or
switches on a ``<|think_off|>``. The open manner leaves keys as they are and shows the words that the template looks
for, unless they hold a control token. It is no proof by itself; it is used only where the sealed manner, which hides
*every* character but those words, leads to the same control tokens in the same order. Sealed words spell nothing and
are all that differs, so what a template does on account of the words it looks for it does in both; a token forged by
other words, or by their meeting a word that is shown, is one too many.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from functools import partial
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
#: Full-width forms (DeepSeek's ``｜DSML｜`` starts with one) go where the surrogates would, which are no characters.
_FULL_WIDTH, _SURROGATES = 0xFF00, 0xD800

#: Unicode's two supplementary private-use areas, and what finds their characters: as such, escaped by Python's repr()
#: (``\\U000f003c``) or by JSON (a pair of surrogates).
_PLANES = {
    0xF0000: re.compile(r"[\U000f0000-\U000ffffd]|\\U000f[0-9a-f]{4}|\\udb[89ab][0-9a-f]\\ud[c-f][0-9a-f]{2}"),
    0x100000: re.compile(r"[\U00100000-\U0010fffd]|\\U0010[0-9a-f]{4}|\\udb[c-f][0-9a-f]\\ud[c-f][0-9a-f]{2}"),
}


def unescape(text: str, plane: int) -> str:
    """The text with private characters as such where the template escaped them."""
    if "\\" not in text:
        return text
    return _PLANES[plane].sub(lambda match: chr(_code_point(match.group())), text)


class Manner(Enum):
    """The extent of what is hidden."""

    STRICT = "whatever could start a control token"
    OPEN = "the same, but for names and the words that the template looks for"
    SEALED = "everything but the words that the template looks for"


class Quoter:
    """Quotes and unquotes for one vocabulary.

    Args:
        control: texts of all control tokens.
        tags: those that an assistant's own words may spell: reasoning and tool-call tags.
        looked_for: words that the template looks for in messages.

    Raises:
        ValueError: a control token starts with a character that cannot be moved: a private one, or one outside the
            basic plane.
    """

    def __init__(self, control: Collection[str], tags: Collection[str], looked_for: Collection[str] = ()) -> None:
        firsts = {token[0] for token in control if not token[0].isalnum()}
        # Letters are everywhere: of a token that starts with one, only whole occurrences are hidden.
        lettered = sorted((token for token in control if token[0].isalnum()), key=len, reverse=True)
        self._lettered = re.compile("|".join(map(re.escape, lettered))) if lettered else None
        if not all(map(_can_move, firsts)):
            raise ValueError(f"control tokens that start with one of {sorted(firsts)} cannot be quoted")
        self._hidden = {plane: str.maketrans({c: _moved(c, plane) for c in firsts}) for plane in _PLANES}
        self._insides = {token.strip(_BRACKETS) for token in control} - {""}
        #: What a word must start with to complete a token whose first brackets a template has written.
        self._completions = tuple(
            {token[k:].rstrip(_BRACKETS) for token in control for k in range(1, _leading(token) + 1)} - {""}
        )
        self._tags = _any_of(tags)
        self._looked_for = _any_of(word for word in looked_for if not any(token in word for token in control))

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

    def quote(self, message: Message, plane: int, manner: Manner = Manner.STRICT) -> Message:
        hide = partial(self._hide, plane=plane, manner=manner)
        said = partial(self._said, plane=plane, manner=manner) if message.role == "assistant" else hide
        calls = (
            ToolCall(self._name(c.name, plane, manner), self._deep(c.arguments, plane, manner), c.id and hide(c.id))
            for c in message.tool_calls
        )
        return replace(
            message,
            content=message.content and said(message.content),
            reasoning=message.reasoning and said(message.reasoning),
            tool_calls=tuple(calls),
            tool_call_id=message.tool_call_id and hide(message.tool_call_id),
            name=message.name and hide(message.name),
        )

    def quote_tool(self, tool: Tool, plane: int, manner: Manner = Manner.STRICT) -> dict[str, Any]:
        quoted: dict[str, Any] = self._deep(tool, plane, manner)
        return quoted

    def unquote(self, text: str, plane: int) -> str:
        """The text with every hidden character shown, also where the template escaped it."""
        return _PLANES[plane].sub(lambda match: _moved_back(_code_point(match.group()) - plane), text)

    def _said(self, text: str, plane: int, manner: Manner) -> str:
        """An assistant's words, whose tags mean what they say."""
        return _each(self._tags, text, lambda words: self._hide(words, plane, manner))

    def _hide(self, text: str, plane: int, manner: Manner) -> str:
        if text in _SCHEMA_WORDS:
            return text
        if manner is Manner.SEALED:
            return _each(self._looked_for, text, lambda words: _sealed(words, plane))
        if manner is Manner.OPEN:
            return _each(self._looked_for, text, lambda words: self._hide_starts(words, plane))
        hidden = self._hide_starts(text, plane)
        inside = text.strip(_BRACKETS + " \n\t")
        return hidden.replace(inside, _broken(inside, plane)) if inside in self._insides else hidden

    def _hide_starts(self, text: str, plane: int) -> str:
        hidden = text.translate(self._hidden[plane])
        if self._lettered is not None:
            hidden = self._lettered.sub(lambda match: _broken(match.group(), plane), hidden)
        return hidden

    def _name(self, text: str, plane: int, manner: Manner) -> str:
        """A key or a name, which templates print between brackets of their own."""
        hidden = self._hide(text, plane, manner)
        if manner is Manner.STRICT and text not in _SCHEMA_WORDS and hidden.startswith(self._completions):
            return _broken(hidden, plane)
        return hidden

    def _deep(self, value: Any, plane: int, manner: Manner) -> Any:
        if isinstance(value, str):
            return self._hide(value, plane, manner)
        if isinstance(value, Mapping):
            return {self._name(str(k), plane, manner): self._deep(v, plane, manner) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self._deep(item, plane, manner) for item in value]
        return value


def _any_of(words: Iterable[str]) -> re.Pattern[str] | None:
    """Finds any of the words, the longest first, as :func:`re.split` keeps them."""
    longest_first = sorted(words, key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, longest_first))})") if longest_first else None


def _each(shown: re.Pattern[str] | None, text: str, hide: Callable[[str], str]) -> str:
    """The text with what stands between shown words hidden."""
    parts = [text] if shown is None else shown.split(text)  # words and shown words in turn
    return "".join(part if k % 2 else hide(part) for k, part in enumerate(parts))


def _sealed(words: str, plane: int) -> str:
    return "".join(c if c.isspace() or not _can_move(c) else _moved(c, plane) for c in words)


def _leading(token: str) -> int:
    """Counts the brackets that a token starts with."""
    return len(token) - len(token.lstrip(_BRACKETS))


def _broken(word: str, plane: int) -> str:
    """The word with its first character hidden."""
    return _moved(word[0], plane) + word[1:] if _can_move(word[0]) else word


def _can_move(char: str) -> bool:
    return ord(char) < HIDDEN_BELOW or _FULL_WIDTH <= ord(char) <= 0xFFFF


def _moved(char: str, plane: int) -> str:
    """Returns what stands for the character in a plane."""
    code = ord(char)
    return chr(plane + (code if code < HIDDEN_BELOW else code - _FULL_WIDTH + _SURROGATES))


def _moved_back(code: int) -> str:
    return chr(code if code < _SURROGATES else code - _SURROGATES + _FULL_WIDTH)


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
