"""``[f(x=1, city='Rome'), g()]``: calls as Python, which Llama 3.2, Llama 4, ToolACE and LFM2 (between tags) write.

A call is sent when its parenthesis is closed: until then its arguments are not certain to be Python.
"""

import ast
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from tickertape.renderers.draft import Draft
from tickertape.renderers.json_text import is_object
from tickertape.renderers.messages import ToolCall
from tickertape.renderers.pieces import Piece, output_markup, output_value
from tickertape.renderers.prompt import CallStatus
from tickertape.renderers.source import Marks, Reading, Source, viable_beginnings
from tickertape.renderers.tool_calls.offered import Offered
from tickertape.renderers.tool_calls.syntax import CallSyntax, read_verbatim, say_call

_CALL = (r"[^\W\d]", r"[\w.-]*", r"\(")
_FIRST = re.compile(r"\s*\[\s*([^\W\d][\w.-]*)\(")
_VIABLE_FIRST = viable_beginnings((r"\s*", r"\[", r"\s*", *_CALL))
_NEXT = re.compile(r"\s*,\s*([^\W\d][\w.-]*)\(|\s*\]")
_VIABLE_NEXT = viable_beginnings((r"\s*", ",", r"\s*", *_CALL), (r"\s*", r"\]"))
#: Of calls without brackets around them.
_FIRST_LINE = re.compile(r"\s*([^\W\d][\w.-]*)\(")
_VIABLE_FIRST_LINE = viable_beginnings((r"\s*", *_CALL))
_NEXT_LINE = re.compile(r"\s*[,;]?\s*([^\W\d][\w.-]*)\(")
_VIABLE_NEXT_LINE = viable_beginnings((r"\s*", "[,;]?", r"\s*", *_CALL))
_JSON_WORDS = {"true": True, "false": False, "null": None}
#: What Python's parser raises on a text that is no expression, or on a hostile one.
_NO_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError)


@dataclass(frozen=True)
class Pythonic(CallSyntax):
    """A list of calls between two tags, or, without ``close``, at the start of the content; then ``open`` is the tag
    that may announce one later on."""

    open: str = ""
    close: str = ""
    brackets: bool = True
    """True if the calls are a list; else each stands on a line, between the tags."""
    padding: str = ""
    streams_arguments: ClassVar[bool] = False

    @property
    def opens(self) -> tuple[str, ...]:
        return (self.open,) if self.open else ()

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(tag for tag in (self.open, self.close) if tag)

    def write(self, calls: Sequence[ToolCall]) -> Iterator[Piece]:
        for k, call in enumerate(calls):
            before = (self.open if self.close else "") + "[" * self.brackets
            yield output_markup((", " if self.brackets else "\n") if k else before)
            yield output_value(call.name)
            yield output_markup("(")
            value = call.arguments_value
            given = value.items() if isinstance(value, dict) else ()
            yield output_value(", ".join(f"{key}={argument!r}" for key, argument in given))
            yield output_markup(")")
        yield output_markup("]" * self.brackets + self.close)

    def read_bare(self, source: Source, draft: Draft, offered: Offered) -> Reading[bool]:  # noqa: ARG002
        if self.close:
            return False
        source.start_record()
        return (yield from self._read_list("", source, draft))

    def read(self, opening: str, source: Source, draft: Draft, offered: Offered) -> Reading[None]:  # noqa: ARG002
        source.start_record()
        if not (yield from self._read_list(opening, source, draft)):
            marks = source.marks(*self.tags)
            yield from read_verbatim(CallStatus.MALFORMED, source, draft, marks, self.close, opening=opening)

    def _read_list(self, opening: str, source: Source, draft: Draft) -> Reading[bool]:
        """Reads the calls; returns True if something was there that began like a call."""
        marks = source.marks(*self.tags)
        listed = self.brackets
        head = yield from source.head(
            *((_FIRST, _VIABLE_FIRST) if listed else (_FIRST_LINE, _VIABLE_FIRST_LINE)), marks
        )
        if head is None:
            return False
        following = (_NEXT, _VIABLE_NEXT) if listed else (_NEXT_LINE, _VIABLE_NEXT_LINE)
        name: str | None = head[1]
        while name:
            written: list[str] = []
            is_complete = yield from _copy_arguments(source, written, marks)
            behind = (yield from source.head(*following, marks)) if is_complete else None
            call, name = name, behind[1] if behind else None
            closed = behind is not None
            if self.close and is_complete and not name:
                closed = (yield from _take_close(source, self.close)) or closed
            _tell(call, "".join(written), opening + source.recorded(), draft, closed=closed)
            opening = ""
            source.start_record()
        return True


def _copy_arguments(source: Source, written: list[str], ends: Marks) -> Reading[bool]:
    """Reads up to and including the parenthesis that ends a call; ``False`` where it does not come."""
    structure = source.marks(*"\\'\"()[]{}", *ends.tags)
    open_brackets, quote = 1, ""
    while True:
        mark = yield from source.copy_until(structure, written.append)
        if mark is None or mark in ends.tags:
            return False
        source.take_tag(mark)
        if mark == "\\" or (quote and mark != quote):
            written.append(mark)
            if mark == "\\":
                written.append((yield from source.next_character()))
                if not written[-1]:
                    return False
        elif mark in "'\"":
            quote = "" if quote else mark
            written.append(mark)
        else:
            open_brackets += 1 if mark in "([{" else -1
            if not open_brackets:
                return True
            written.append(mark)


def _take_close(source: Source, close: str) -> Reading[bool]:
    """Consumes the tag that closes the calls; returns True if it was there."""
    if (yield from source.before(source.marks(close), re.compile(r"\s*"))) is None:
        return False
    source.take_tag(close)
    return True


def _tell(name: str, written: str, raw: str, draft: Draft, *, closed: bool) -> None:
    """Passes on one call."""
    status, arguments = _arguments(written)
    call = None if arguments is None else ToolCall(name, arguments)
    say_call(draft, call, status if closed else CallStatus.UNCLOSED, raw)


class _JsonWords(ast.NodeTransformer):
    """Takes JSON's words for what they mean: some templates write objects as JSON within Python."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(_JSON_WORDS[node.id]) if node.id in _JSON_WORDS else node


class _SourceText:
    """The text of nodes of one source. ``ast.get_source_segment`` splits the source into lines for each of them, which
    costs the square of its length."""

    def __init__(self, source: str) -> None:
        self._source = source

    @cached_property
    def _lines(self) -> tuple[bytes, list[int]]:
        encoded = self._source.encode()
        return encoded, [0, *(found.end() for found in _LINE_END.finditer(encoded))]

    def __call__(self, node: ast.expr) -> str:
        encoded, starts = self._lines
        assert node.end_lineno is not None and node.end_col_offset is not None  # noqa: S101, PT018  (it was parsed)
        begin = starts[node.lineno - 1] + node.col_offset
        return encoded[begin : starts[node.end_lineno - 1] + node.end_col_offset].decode()


#: As Python's parser counts lines.
_LINE_END = re.compile(rb"\r\n|\r|\n")


def _arguments(written: str) -> tuple[CallStatus, str | None]:
    """Keyword arguments as JSON. A bare word, for want of a better reading, is text."""
    source, status = f"f({written})", CallStatus.OK
    given = {}
    text_of = _SourceText(source)
    try:
        call = ast.parse(source, mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(keyword.arg is None for keyword in call.keywords):
            return CallStatus.MALFORMED, None
        for keyword in call.keywords:
            try:
                given[keyword.arg] = ast.literal_eval(_JsonWords().visit(keyword.value))
            except ValueError:
                given[keyword.arg] = text_of(keyword.value)
                status = CallStatus.MALFORMED
        arguments = json.dumps(given, ensure_ascii=False)
        arguments.encode()  # fails for half of a surrogate pair, which is no text
    except (*_NO_PYTHON, TypeError):  # TypeError: a set or bytes, which JSON has not
        return CallStatus.MALFORMED, None
    return (status, arguments) if is_object(arguments) else (CallStatus.MALFORMED, None)
