"""JSON as models write it: read strictly, and scanned while it is still being written."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from tickertape.renderers.source import Marks, Reading, Sink, Source


def strict_json(text: str) -> Any:
    """JSON that can be sent on: no ``NaN``, no number beyond a float, no half of a surrogate pair.

    Raises:
        ValueError: it is none, or is nested too deeply to be read.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()  # UnicodeEncodeError, a ValueError, for half a pair
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value


def is_object(text: str) -> bool:
    """Returns True if ``text`` is a JSON object that can be sent on."""
    try:
        return isinstance(strict_json(text), dict)
    except ValueError:
        return False


def json_string(text: str) -> str | None:
    """The string that ``text`` is as JSON, or ``None``."""
    try:
        value = strict_json(text)
    except ValueError:
        return None
    return value if isinstance(value, str) else None


def is_deeper(value: Any, most: int) -> bool:
    """Returns True if lists and objects are nested more than so many levels; level by level, whatever the depth."""
    return any(depth > most for depth, _ in enumerate(levels(value), 1))


def levels(value: Any) -> Iterator[list[Any]]:
    """The lists and objects of a JSON value, level by level from the outermost."""
    level = [value]
    while level := [each for each in level if type(each) is dict or type(each) is list]:
        yield level
        level = [child for each in level for child in (each.values() if type(each) is dict else each)]


def closes_object(behind: str) -> bool:
    """Returns True if the text after a field's value ends the object that holds it; more fields may come before
    that."""
    if behind.strip() == "}":
        return True
    try:
        strict_json('{"": 0' + behind)
    except ValueError:
        return False
    return True


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_STRUCTURE = re.compile(r'["{}\[\]]')
_REST_OF_STRING = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)


class _Brackets:
    """Finder of the end of a JSON value that begins with a bracket."""

    def __init__(self, marks: Marks, depth: int) -> None:
        self._marks = marks
        self._depth = depth
        self.in_string = False

    def scan(self, text: str, *, more: bool) -> tuple[int, bool | None]:
        """Returns how far ``text`` is understood, and whether the value ends there: ``False`` at a mark, ``None`` if it
        goes on. With ``more`` to come, an end that may be the beginning of an escape or of a mark is left for later."""
        at = 0
        while at < len(text):
            if self.in_string:
                rest = _REST_OF_STRING.match(text, at)
                at = rest.end() if rest else at
                if at == len(text) or text[at] == "\\":
                    break
                self.in_string = False
                at += 1
                continue
            limit = len(text) - self._marks.held_back(text) if more else len(text)
            found = _STRUCTURE.search(text, at, limit)
            mark = self._marks.find(text, at)
            if mark and (found is None or mark.start() <= found.start()):
                return mark.start(), False
            if found is None:
                return max(at, limit), None
            at = found.end()
            if found.group() == '"':
                self.in_string = True
            else:
                self._depth += 1 if found.group() in "{[" else -1
                if self._depth <= 0:
                    return at, True
        return at, None


def copy_json(source: Source, sink: Sink, marks: Marks, *, depth: int = 0) -> Reading[bool]:
    """Passes on the JSON object or array at the start of the text as it comes. ``False`` where it does not end before
    one of the marks. Inside a string a mark counts only if it is a token, and what stands after it is another, or a
    call's object, or nothing: elsewhere it is a word of the string. With ``depth``, the text starts
    inside so many objects or arrays, and goes on to the end of the outermost."""
    brackets = _Brackets(marks, depth)
    while True:
        understood, complete = brackets.scan(source.text, more=source.tag is None and not source.ended)
        sink(source.take(understood))
        if complete is not None:
            return complete
        if source.tag is not None or source.ended:
            sink(source.take(len(source.text)))
            tag = source.tag
            if tag is None:
                return False
            if tag in marks.tokens:
                behind = source.marks(*marks.tags, "{")  # a call's object, or another tag
                if not brackets.in_string or (yield from source.followed_by(tag, behind)):
                    return False
            sink(source.take_tag(tag))
        else:
            yield
