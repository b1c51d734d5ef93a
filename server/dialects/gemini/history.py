"""Gemini's contents of parts → messages.

Consecutive contents of one role are one: Google's SDK keeps an answer that was streamed as the pieces that came.
Results of functions come before what the user says in the same content.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TypeAlias

from tickertape.renderers.messages import Message, ToolCall
from tickertape.server.dialects.gemini.schema import Blob, Content, FunctionResponse, Part
from tickertape.server.dialects.invalid_json import as_written
from tickertape.server.dialects.reading import History, extras, left_out
from tickertape.server.errors import InvalidRequest

#: Keys under which the SDK and Google's CLI wrap what a function returned.
_RETURNED = ("output", "result")

Placed: TypeAlias = tuple[str, Part]


def read_history(system: Content | None, contents: Sequence[Content]) -> History:
    """Reads the complete conversation.

    Raises:
        InvalidRequest: a part is of a kind that cannot be read here.
    """
    history = History()
    if system is not None:
        parts = list(_parts(system, "systemInstruction", history))
        if text := "\n".join(part.text for _, part in parts if part.text is not None):
            history.messages.append(Message("system", text))
    for is_model, run in groupby(enumerate(contents), key=lambda numbered: numbered[1].role == "model"):
        parts = [each for k, content in run for each in _parts(content, f"contents[{k}]", history)]
        history.messages += _answer(parts) if is_model else _said(parts, history)
    return history


def _parts(content: Content, place: str, history: History) -> Iterator[Placed]:
    history.ignored += extras(content, f"{place}.")
    for k, part in enumerate(content.parts or ()):
        at = f"{place}.parts[{k}]"
        outside = list(extras(part, f"{at}."))
        if outside and not _says_something(part):
            raise InvalidRequest(
                f"{outside[0]} cannot be read here: there are parts of text, functionCall and functionResponse",
                param=outside[0],
                code="unsupported_value",
            )
        history.ignored += outside
        for inner, name in ((part.function_call, "functionCall"), (part.function_response, "functionResponse")):
            if inner is not None:
                history.ignored += extras(inner, f"{at}.{name}.")
        yield at, part


def _says_something(part: Part) -> bool:
    return any(getattr(part, name) is not None for name in Part.model_fields)


def _answer(parts: Sequence[Placed]) -> Iterator[Message]:
    texts = [part.text for _, part in parts if part.text and not part.thought]
    thoughts = [part.text for _, part in parts if part.text and part.thought]
    calls = [part.function_call for _, part in parts if part.function_call is not None]
    yield Message(
        "assistant",
        "".join(texts),
        "".join(thoughts) if thoughts else None,
        tuple(ToolCall(call.name, as_written(call.args or {}), call.id) for call in calls),
    )


def _said(parts: Sequence[Placed], history: History) -> Iterator[Message]:
    texts = []
    for place, part in parts:
        if part.function_response is not None:
            yield _result(part.function_response, f"{place}.functionResponse", history)
        elif part.text is not None:
            texts.append(part.text)
        else:
            texts += _media(part.inline_data or part.file_data, place, history)
    if texts:
        yield Message("user", "\n".join(texts))


def _result(given: FunctionResponse, place: str, history: History) -> Message:
    """Returns what a function returned: the text itself where it is wrapped as Google's own clients wrap it, else
    JSON."""
    response = given.response or {}
    name, value = next(iter(response.items()), (None, None))
    text = json.dumps(response, ensure_ascii=False)
    if len(response) == 1 and isinstance(value, str):
        text = value if name in _RETURNED else f"Error: {value}" if name == "error" else text
    shown = [text]
    for k, part in enumerate(given.parts or ()):
        shown += _media(part.inline_data or part.file_data, f"{place}.parts[{k}]", history)
    return Message("tool", "\n".join(shown), tool_call_id=given.id, name=given.name)


def _media(blob: Blob | None, place: str, history: History) -> list[str]:
    if blob is None:
        return []
    kind = (blob.mime_type or "").partition("/")[0]
    return [left_out(kind if kind in ("image", "audio", "video") else "file", place, history.unreadable)]
