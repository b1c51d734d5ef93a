"""Values as Python prints them, which some chat templates show to the model: ``{'a': [True, None]}``."""

import json
import re

_TOKEN = re.compile(
    r"""(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*") | (?P<word>\w+) | (?P<other>[^'"\w]+)""", re.DOTALL | re.VERBOSE
)
_WORDS = {"True": "true", "False": "false", "None": "null"}
_ESCAPE = re.compile(r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "'": "'", '"': '"', "\\": "\\"}


def json_of_python(text: str) -> str | None:
    """The text of a value with Python's words and quotes replaced by JSON's; ``None`` where a quote is left open.

    Whether the result is JSON is for the caller to see: this reads what ``str`` prints of a JSON value, not Python.
    """
    parts: list[str] = []
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            return None
        at = token.end()
        if token["text"] is not None:
            parts.append(json.dumps(_ESCAPE.sub(_unescaped, token["text"][1:-1]), ensure_ascii=False))
        else:
            parts.append(_WORDS.get(token.group(), token.group()))
    return "".join(parts)


def _unescaped(escape: re.Match[str]) -> str:
    letter = escape.group()[1]
    if letter in "xuU" and len(escape.group()) > 2:
        code = int(escape.group()[2:], 16)
        is_character = code < 0x110000 and not 0xD800 <= code < 0xE000
        return chr(code) if is_character else escape.group()
    return _ESCAPED.get(letter, escape.group())
