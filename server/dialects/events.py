"""Server-sent events.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html. JSON holds no line breaks, so that an event's
data is one line.
"""

from typing import Any

import orjson


def event(data: dict[str, Any], name: str | None = None) -> bytes:
    """An event; with a name, clients that listen by name hear it."""
    line = b"data: " + orjson.dumps(data) + b"\n\n"
    return line if name is None else b"event: " + name.encode() + b"\n" + line


def comment(text: str) -> bytes:
    """Returns a comment, which clients skip."""
    return f": {text}\n\n".encode()
