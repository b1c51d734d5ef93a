"""``<|tool_call>call:name{key:<|"|>text<|"|>,n:1}<tool_call|>``: Gemma 4.

Arguments are like JSON, but for bare keys and for a token of the vocabulary in place of quotation marks, so that text
needs no escapes.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tickertape.renderers.draft import Draft
from tickertape.renderers.json_text import json_string
from tickertape.renderers.messages import ToolCall
from tickertape.renderers.pieces import Piece, output_markup, output_value
from tickertape.renderers.prompt import CallStatus
from tickertape.renderers.source import Reading, Sink, Source
from tickertape.renderers.tool_calls.offered import UNTYPED, Offered
from tickertape.renderers.tool_calls.python_text import json_of_python
from tickertape.renderers.tool_calls.syntax import CallSyntax, read_verbatim

QUOTE = '<|"|>'
_HEAD = re.compile(r"\s*(?:call:)?\s*([\w.:/-]{0,256})\s*")
_BRACKETS = {"{": "}", "[": "]"}
ToPiece = Callable[[str], Piece]


@dataclass(frozen=True)
class GemmaCalls(CallSyntax):
    """Gemma 4's calls."""

    open: str = "<|tool_call>"
    close: str = "<tool_call|>"
    padding: str = ""

    @property
    def opens(self) -> tuple[str, ...]:
        return (self.open,)

    @property
    def tags(self) -> tuple[str, ...]:
        return (self.open, self.close, QUOTE)

    def write(self, calls: Sequence[ToolCall]) -> Iterator[Piece]:
        for call in calls:
            yield output_markup(f"{self.open}call:")
            yield output_value(call.name)
            yield from written(call.arguments_value, output_markup, output_value)
            yield output_markup(self.close)

    def read(self, opening: str, source: Source, draft: Draft, offered: Offered) -> Reading[None]:  # noqa: ARG002
        source.start_record()
        found = yield from source.before(source.marks("{", *self.tags), _HEAD)
        head, tag = found or ("", "")
        matched = _HEAD.fullmatch(head)
        name = matched[1] if matched and tag == "{" else ""
        if not name:
            marks = source.marks(self.open, self.close)
            status = CallStatus.MALFORMED
            yield from read_verbatim(status, source, draft, marks, self.close, opening=opening, already=head)
            return
        draft.open_call(name)
        status = yield from _Arguments(source, draft, self).read()
        draft.close_call(status, opening + source.recorded())


class _Arguments:
    """Reads the arguments of one call and tells them as JSON while they come. Brackets are kept in a list, not in
    nested calls: a model may open any number of them."""

    def __init__(self, source: Source, draft: Draft, syntax: GemmaCalls) -> None:
        self._source = source
        self._draft = draft
        self._syntax = syntax
        self._open: list[str] = []
        self._first = True
        """True if nothing stands yet in the innermost brackets."""
        self._key: str | None = None
        """The key whose value is to come."""
        self._text = ""
        """The text that was read since the last mark."""
        self._sound = True
        self._repaired = False

    def read(self) -> Reading[CallStatus]:
        """From the first brace on."""
        source, syntax = self._source, self._syntax
        within, behind = source.marks(*"{}[],:=\"'", *syntax.tags), source.marks(syntax.open, syntax.close)
        while True:
            tag = yield from source.copy_until(within if self._open or self._first else behind, self._add)
            if tag is None or tag == syntax.open:
                return CallStatus.UNCLOSED
            source.take_tag(tag)
            if tag == syntax.close:
                self._sound &= not self._text.strip()
                if self._open:
                    return CallStatus.UNCLOSED
                if not self._sound:
                    return CallStatus.MALFORMED
                return CallStatus.REPAIRED if self._repaired else CallStatus.OK
            if tag == QUOTE or (tag in "\"'" and not self._text.strip()):
                end = yield from self._read_text(tag)
                if end == syntax.close:
                    source.take_tag(end)
                if end != tag:
                    return CallStatus.UNCLOSED
            else:
                self._mark(tag)

    def _add(self, text: str) -> None:
        self._text += text

    @property
    def _wants_key(self) -> bool:
        return bool(self._open) and self._open[-1] == "{" and self._key is None

    def _mark(self, mark: str) -> None:
        if mark in ":=":
            if self._wants_key:
                self._repaired |= mark == "="
                self._take_key(self._text.strip())
            else:
                self._text += mark
        elif mark in _BRACKETS and not self._wants_key and not self._text.strip():
            self._begin_value(mark)
            self._open.append(mark)
            self._first = True
        elif mark in _BRACKETS or mark in "\"'":
            self._text += mark
        else:
            self._end_value()
            if mark != ",":
                self._sound &= mark == _BRACKETS[self._open[-1]]
                self._draft.argue(_BRACKETS[self._open.pop()])
                self._first = False

    def _take_key(self, key: str) -> None:
        self._key, self._text = key, ""

    def _begin_value(self, beginning: str) -> None:
        """Tells the separator and key in front of a value, and its beginning."""
        lead = "" if self._first else ", "
        if self._key is not None:
            lead += json.dumps(self._key, ensure_ascii=False) + ": "
        self._draft.argue(lead + beginning)
        self._first, self._key, self._text = False, None, ""

    def _end_value(self) -> None:
        """At the end of an entry: sends a number or word that was not sent yet."""
        text = self._text.strip()
        if self._wants_key:
            self._sound &= not text  # words without a value
            self._text = ""
        elif text or self._key is not None:
            value = UNTYPED.json_of("", "", text).json
            self._sound &= not value.startswith('"')  # a word without quotes
            self._begin_value(value)

    def _read_text(self, quote: str) -> Reading[str | None]:
        """Text after a quotation mark, and the tag that ends it, which is consumed if it is another such mark. Models
        fall back to marks of JSON's or Python's, whose text has escapes."""
        source = self._source
        self._sound &= not self._text.strip()
        self._repaired |= quote != QUOTE
        parts: list[str] = []
        is_key = self._wants_key
        if not is_key:
            self._begin_value('"' if quote == QUOTE else "")
        tells = quote == QUOTE and not is_key
        tag = yield from self._copy_text(
            quote, (lambda text: self._draft.argue(_escaped(text))) if tells else parts.append
        )
        text = "".join(parts)
        if quote != QUOTE:
            text = json_string(json_of_python(quote + text + quote) or "") or text
        if is_key:
            self._text = text
        elif tells:
            self._draft.argue('"' if tag == quote else "")
        else:
            self._draft.argue(json.dumps(text, ensure_ascii=False))
        if tag == quote:
            source.take_tag(quote)
        return tag

    def _copy_text(self, quote: str, sink: Sink) -> Reading[str | None]:
        """Passes on text up to the mark that ends it. The tag that closes a call does so only where nothing more of it
        can follow: elsewhere it is a word of the text."""
        source, syntax = self._source, self._syntax
        escape = "" if quote == QUOTE else "\\"
        marks = source.marks(quote, escape, syntax.open, syntax.close)
        while True:
            tag = yield from source.copy_until(marks, sink)
            if tag is None or tag == quote:
                return tag
            if tag != escape and (yield from source.followed_by(tag, source.marks("call:", syntax.open))):
                return tag
            sink(source.take_tag(tag))
            if tag == escape:
                sink((yield from source.next_character()))


def written(value: Any, mark: ToPiece, word: ToPiece, *, quoted_keys: bool = False) -> Iterator[Piece]:
    """A value as the format has it: keys in order, ``mark`` for its own signs and ``word`` for what is said."""
    if isinstance(value, str):
        yield mark(QUOTE)
        yield word(value)
        yield mark(QUOTE)
    elif isinstance(value, Mapping):
        yield mark("{")
        for k, (key, inner) in enumerate(in_order(value)):
            yield mark("," if k else "")
            yield from written(key, mark, word) if quoted_keys else (word(key),)
            yield mark(":")
            yield from written(inner, mark, word, quoted_keys=quoted_keys)
        yield mark("}")
    elif isinstance(value, list | tuple):
        yield mark("[")
        for k, inner in enumerate(value):
            yield mark("," if k else "")
            yield from written(inner, mark, word, quoted_keys=quoted_keys)
        yield mark("]")
    else:
        yield word("null" if value is None else str(value).lower() if isinstance(value, bool) else str(value))


def in_order(mapping: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Entries by key, whatever the case of its letters, as Jinja's ``dictsort`` has them."""
    return sorted(mapping.items(), key=lambda entry: str(entry[0]).lower())


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]
