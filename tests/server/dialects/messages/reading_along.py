"""A client that reads along: Anthropic's streams over plain HTTP, each event checked against the SDK's own types."""

import json
from dataclasses import dataclass, field
from typing import Any

from anthropic.types import (
    RawContentBlockDeltaEvent,
    RawContentBlockStartEvent,
    RawContentBlockStopEvent,
    RawMessageDeltaEvent,
    RawMessageStartEvent,
    RawMessageStopEvent,
)
from pydantic import BaseModel

from tests.server.conftest import Proxy

EVENTS: dict[str, type[BaseModel]] = {
    "message_start": RawMessageStartEvent,
    "content_block_start": RawContentBlockStartEvent,
    "content_block_delta": RawContentBlockDeltaEvent,
    "content_block_stop": RawContentBlockStopEvent,
    "message_delta": RawMessageDeltaEvent,
    "message_stop": RawMessageStopEvent,
}
USER = [{"role": "user", "content": "Hello"}]
LOOK_UP = {"name": "look_up", "description": "Looks up.", "input_schema": {"type": "object"}}


@dataclass
class Heard:
    """One streamed answer."""

    headers: dict[str, str]
    events: list[dict[str, Any]] = field(default_factory=list)
    pings: int = 0
    error: dict[str, Any] | None = None

    def message(self) -> dict[str, Any]:
        """All events together, in the shape of a whole answer."""
        message: dict[str, Any] = {}
        inputs: dict[int, str] = {}
        for event in self.events:
            delta = event.get("delta", {})
            match event["type"]:
                case "message_start":
                    message = {**event["message"], "content": []}
                case "content_block_start":
                    message["content"].append(dict(event["content_block"]))
                case "content_block_delta" if delta["type"] == "input_json_delta":
                    inputs[event["index"]] = inputs.get(event["index"], "") + delta["partial_json"]
                case "content_block_delta":
                    ((name, text),) = [item for item in delta.items() if item[0] != "type"]
                    message["content"][event["index"]][name] += text
                case "content_block_stop" if event["index"] in inputs:
                    message["content"][event["index"]]["input"] = json.loads(inputs[event["index"]])
                case "message_delta":
                    message |= delta | {"usage": {**message["usage"], **event["usage"]}}
        return message

    def deltas(self, kind: str) -> list[str]:
        """The texts of all deltas of a kind."""
        deltas = [event["delta"] for event in self.events if event["type"] == "content_block_delta"]
        return [text for d in deltas if d["type"] == kind for name, text in d.items() if name != "type"]


def read_along(proxy: Proxy, session: str, messages: list[dict[str, Any]], **fields: Any) -> Heard:
    """Streams one answer to its end."""
    body = {"model": proxy.model, "max_tokens": 1000, "messages": messages, "stream": True, **fields}
    with proxy.http.stream("POST", f"/sessions/{session}/v1/messages?beta=true", json=body) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        heard = Heard(dict(response.headers))
        name = ""
        for line in b"".join(response.iter_bytes()).decode().split("\n"):
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line:
                assert line.startswith("data: "), line
                _take(heard, name, json.loads(line.removeprefix("data: ")))
    return heard


def ask(proxy: Proxy, session: str | None, messages: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """One whole answer."""
    answer = post(proxy, session, messages, **fields)
    assert answer.status_code == 200, answer.text
    whole: dict[str, Any] = answer.json()
    return whole


def post(proxy: Proxy, session: str | None, messages: Any, **fields: Any) -> Any:
    """A bare call."""
    prefix = "" if session is None else f"/sessions/{session}"
    body = {"model": proxy.model, "max_tokens": 1000, "messages": messages, **fields}
    return proxy.http.post(f"{prefix}/v1/messages", json=body)


def without_ids(message: dict[str, Any]) -> dict[str, Any]:
    """Ids and signatures come from the turn's own."""

    def anonymous(block: dict[str, Any]) -> dict[str, Any]:
        hidden = {"signature": ""} if "signature" in block else {"id": block["id"][-2:]} if "id" in block else {}
        return {**block, **hidden}

    return {**message, "id": "", "content": [anonymous(block) for block in message["content"]]}


def _take(heard: Heard, name: str, event: dict[str, Any]) -> None:
    assert event["type"] == name
    assert heard.error is None, f"after an error: {event}"
    if name == "ping":
        assert event == {"type": "ping"}
        assert heard.events, "a ping before the message"
        heard.pings += 1
    elif name == "error":
        heard.error = event["error"]
    else:
        assert not _extras(EVENTS[name].model_validate(event, strict=True)), event
        _check_order(heard.events, event)
        heard.events.append(event)


def _extras(value: Any) -> list[str]:
    """Fields that the SDK does not know, anywhere."""
    if isinstance(value, list):
        return [extra for item in value for extra in _extras(item)]
    if not isinstance(value, BaseModel):
        return []
    known = [extra for name in type(value).model_fields for extra in _extras(getattr(value, name))]
    return [*(value.model_extra or {}), *known]


#: What may come behind what.
_NEXT = {
    "": {"message_start"},
    "message_start": {"content_block_start", "message_delta"},
    "content_block_start": {"content_block_delta", "content_block_stop"},
    "content_block_delta": {"content_block_delta", "content_block_stop"},
    "content_block_stop": {"content_block_start", "message_delta"},
    "message_delta": {"message_stop"},
    "message_stop": set[str](),
}


def _check_order(before: list[dict[str, Any]], event: dict[str, Any]) -> None:
    assert event["type"] in _NEXT[before[-1]["type"] if before else ""], event
    started = [e for e in before if e["type"] == "content_block_start"]
    if "index" in event:
        assert event["index"] == len(started) - (event["type"] != "content_block_start")
    if event["type"] == "content_block_delta":
        kinds = {"thinking_delta": "thinking", "signature_delta": "thinking", "input_json_delta": "tool_use"}
        assert started[-1]["content_block"]["type"] == kinds.get(event["delta"]["type"], "text")
