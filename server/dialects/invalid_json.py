"""A call's arguments in protocols that have room for an object only, where the model wrote none.

What it wrote is then the value of the object's only key. Anthropic's documentation of fine-grained tool streaming has
it so; Gemini's protocol has no word for it.
"""

from typing import Any

import orjson

INVALID_JSON = "INVALID_JSON"


def object_text(text: str) -> str:
    """Returns what the model wrote, as the text of a JSON object."""
    try:
        is_object = isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        is_object = False
    return text if is_object else orjson.dumps({INVALID_JSON: text}).decode()


def as_written(given: dict[str, Any]) -> str | dict[str, Any]:
    """Returns what the model wrote, by the object that a client sends back."""
    invalid = given.get(INVALID_JSON)
    return invalid if len(given) == 1 and isinstance(invalid, str) else given
