"""The four protocols as an agent's client has them: what it sends, and what it has heard when an answer was whole."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Item = dict[str, Any]
TOOL = ("look_up", {"type": "object", "properties": {}})


@dataclass(frozen=True)
class Said:
    """An answer that was heard from its first byte to its last."""

    turn_id: str
    text: str
    thoughts: str
    calls: list[tuple[str, Any]]
    """Names and arguments."""
    call_ids: list[str]
    items: list[Item]
    """The answer as the client sends it back with its next request."""


class Dialect(Protocol):
    """One protocol."""

    name: str
    path: str

    def body(self, history: Sequence[Item], mark: str) -> Item:
        """A request; its turn on tape has the mark."""
        ...

    def user(self, text: str) -> Item: ...
    def result(self, call_id: str, text: str) -> Item: ...
    def read(self, answer: Item) -> Said:
        """A whole answer."""
        ...

    def gathered(self, events: Iterable[Item]) -> Item | None:
        """The whole answer that a stream's events add up to; ``None`` if its last event is missing."""
        ...


def events_of(body: bytes) -> Iterator[Item]:
    """The data of server-sent events that are whole; ``[DONE]`` is ``{"type": "done"}``."""
    for event in body.split(b"\n\n")[:-1]:
        for line in event.splitlines():
            if line.startswith(b"data: "):
                yield {"type": "done"} if line == b"data: [DONE]" else json.loads(line[6:])


def value(arguments: str) -> Any:
    """What a call's arguments mean, or the text that they are."""
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


class Chat:
    name, path = "chat", "chat/completions"

    def body(self, history: Sequence[Item], mark: str) -> Item:
        function = {"name": TOOL[0], "parameters": TOOL[1]}
        return {"messages": [*history], "tools": [{"type": "function", "function": function}], "user": mark}

    def user(self, text: str) -> Item:
        return {"role": "user", "content": text}

    def result(self, call_id: str, text: str) -> Item:
        return {"role": "tool", "tool_call_id": call_id, "content": text}

    def read(self, answer: Item) -> Said:
        message = answer["choices"][0]["message"]
        calls = message.get("tool_calls") or []
        return Said(
            answer["id"].removeprefix("chatcmpl-"),
            message["content"] or "",
            message.get("reasoning_content") or "",
            [(each["function"]["name"], value(each["function"]["arguments"])) for each in calls],
            [each["id"] for each in calls],
            [message],
        )

    def gathered(self, events: Iterable[Item]) -> Item | None:
        message: Item = {"role": "assistant", "content": "", "reasoning_content": ""}
        calls: dict[int, Item] = {}
        whole: Item | None = None
        for event in events:
            if event.get("type") == "done":
                return whole
            for choice in event.get("choices", ()):
                delta = choice["delta"]
                for name in ("content", "reasoning_content"):
                    message[name] += delta.get(name) or ""
                for part in delta.get("tool_calls") or ():
                    call = calls.setdefault(part["index"], {**part, "function": {**part["function"], "arguments": ""}})
                    call["function"]["arguments"] += part["function"].get("arguments") or ""
                if choice["finish_reason"]:
                    told = [{k: v for k, v in call.items() if k != "index"} for call in calls.values()]
                    whole = {
                        "id": event["id"],
                        "choices": [{"message": message | ({"tool_calls": told} if told else {})}],
                    }
        return None


class Messages:
    name, path = "messages", "messages"

    def body(self, history: Sequence[Item], mark: str) -> Item:
        tools = [{"name": TOOL[0], "input_schema": TOOL[1]}]
        return {"messages": [*history], "max_tokens": 400, "tools": tools, "metadata": {"user_id": mark}}

    def user(self, text: str) -> Item:
        return {"role": "user", "content": text}

    def result(self, call_id: str, text: str) -> Item:
        return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call_id, "content": text}]}

    def read(self, answer: Item) -> Said:
        blocks = answer["content"]
        uses = [block for block in blocks if block["type"] == "tool_use"]
        return Said(
            answer["id"].removeprefix("msg_"),
            "".join(block["text"] for block in blocks if block["type"] == "text"),
            "".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
            [(use["name"], use["input"]) for use in uses],
            [use["id"] for use in uses],
            [{"role": "assistant", "content": blocks}] if blocks else [],
        )

    def gathered(self, events: Iterable[Item]) -> Item | None:
        message: Item = {}
        inputs: dict[int, str] = {}
        for event in events:
            match event["type"]:
                case "message_start":
                    message = {"id": event["message"]["id"], "content": []}
                case "content_block_start":
                    message["content"].append(dict(event["content_block"]))
                case "content_block_delta":
                    self._add(message["content"][event["index"]], event["delta"], inputs, event["index"])
                case "message_stop":
                    for index, text in inputs.items():
                        message["content"][index]["input"] = json.loads(text or "{}")
                    return message
        return None

    def _add(self, block: Item, delta: Item, inputs: dict[int, str], index: int) -> None:
        if delta["type"] == "input_json_delta":
            inputs[index] = inputs.get(index, "") + delta["partial_json"]
            return
        name = delta["type"].removesuffix("_delta")
        block[name] += delta[name]


class Responses:
    name, path = "responses", "responses"

    def body(self, history: Sequence[Item], mark: str) -> Item:
        tools = [{"type": "function", "name": TOOL[0], "parameters": TOOL[1], "strict": False}]
        return {"input": [*history], "tools": tools, "store": False, "metadata": {"mark": mark}}

    def user(self, text: str) -> Item:
        return {"role": "user", "content": text}

    def result(self, call_id: str, text: str) -> Item:
        return {"type": "function_call_output", "call_id": call_id, "output": text}

    def read(self, answer: Item) -> Said:
        items = answer["output"]
        calls = [item for item in items if item["type"] == "function_call"]
        parts = {kind: [p for item in items if item["type"] == kind for p in item["content"]] for kind in _PARTS}
        return Said(
            answer["id"].removeprefix("resp_"),
            "".join(part["text"] for part in parts["message"]),
            "".join(part["text"] for part in parts["reasoning"]),
            [(call["name"], value(call["arguments"])) for call in calls],
            [call["call_id"] for call in calls],
            items,
        )

    def gathered(self, events: Iterable[Item]) -> Item | None:
        for event in events:
            if event["type"] in ("response.completed", "response.incomplete"):
                response: Item = event["response"]
                return response
        return None


_PARTS = ("message", "reasoning")


class Completions:
    name, path = "completions", "completions"

    def body(self, history: Sequence[Item], mark: str) -> Item:
        return {"prompt": "\n".join(item["text"] for item in history), "max_tokens": 60, "user": mark}

    def user(self, text: str) -> Item:
        return {"text": text}

    def result(self, call_id: str, text: str) -> Item:
        raise AssertionError("bare completions have no calls")

    def read(self, answer: Item) -> Said:
        text = answer["choices"][0]["text"]
        return Said(answer["id"].removeprefix("cmpl-"), text, "", [], [], [{"text": text}])

    def gathered(self, events: Iterable[Item]) -> Item | None:
        text, whole = "", None
        for event in events:
            if event.get("type") == "done":
                return whole
            for choice in event.get("choices", ()):
                text += choice["text"]
                if choice["finish_reason"]:
                    whole = {"id": event["id"], "choices": [{"text": text}]}
        return None


DIALECTS: tuple[Dialect, ...] = (Chat(), Messages(), Responses(), Completions())
