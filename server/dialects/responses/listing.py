"""Messages → items of the Responses protocol, as ``GET /v1/responses/{id}/input_items`` lists them."""

from collections.abc import Iterator, Sequence
from typing import Any

from tickertape.renderers.messages import Message
from tickertape.server.dialects.responses.items import Item, call_item
from tickertape.server.dialects.responses.tools import Forms


def input_items(messages: Sequence[Message], turn_id: str, forms: Forms) -> list[Item]:
    """The conversation that a turn answered, instructions left out, oldest first."""
    items: list[Item] = []
    for message in messages:
        for item in _items(message, forms):
            items.append({**item, "id": f"{item['id']}_{turn_id}_in{len(items)}"})
    return items


def _items(message: Message, forms: Forms) -> Iterator[Item]:
    if message.role == "tool":
        output = {"call_id": message.tool_call_id or "", "output": message.text, "status": "completed"}
        yield {"type": "function_call_output", "id": "fco", **output}
    elif message.role == "assistant":
        yield from _answer_items(message, forms)
    else:
        content = [{"type": "input_text", "text": message.text}]
        yield {"type": "message", "id": "msg", "role": message.role, "status": "completed", "content": content}


def _answer_items(message: Message, forms: Forms) -> Iterator[Item]:
    if message.reasoning:
        content: list[dict[str, Any]] = [{"type": "reasoning_text", "text": message.reasoning}]
        yield {"type": "reasoning", "id": "rs", "summary": [], "content": content, "status": "completed"}
    if message.content or not message.tool_calls:
        content = [{"type": "output_text", "text": message.text, "annotations": [], "logprobs": []}]
        yield {"type": "message", "id": "msg", "role": "assistant", "status": "completed", "content": content}
    for call in message.tool_calls:
        item = call_item(call.name, call.id or "", call.arguments_json, forms, "", 0, "completed")
        yield {**item, "id": "ctc" if item["type"] == "custom_tool_call" else "fc"}
