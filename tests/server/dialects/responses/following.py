"""A client that follows Responses streams over plain HTTP, each event checked against OpenAI's own types."""

import json
from dataclasses import dataclass, field
from typing import Any

import httpx
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.server.conftest import Proxy

_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
_GROWS = {
    "response.output_text.delta": "text",
    "response.reasoning_text.delta": "text",
    "response.function_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "input",
}


@dataclass
class Followed:
    """One streamed answer."""

    headers: dict[str, str] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)

    @property
    def kinds(self) -> list[str]:
        return [event["type"].removeprefix("response.") for event in self.events]

    @property
    def response(self) -> dict[str, Any]:
        """The last event's."""
        return dict(self.events[-1]["response"])

    def output(self) -> list[dict[str, Any]]:
        """The items that deltas add up to, checked against what the ``done`` events say on the way."""
        items: list[dict[str, Any]] = []
        for event in self.events:
            kind, place = event["type"], event.get("output_index")
            if kind == "response.output_item.added":
                assert place == len(items), "items come in order"
                items.append(json.loads(json.dumps(event["item"])))
            elif kind == "response.content_part.added":
                items[place]["content"].append(dict(event["part"]))
            elif kind in _GROWS:
                assert place == len(items) - 1, "an item is closed before the next one opens"
                target = items[place]["content"][0] if "content_index" in event else items[place]
                target[_GROWS[kind]] += event["delta"]
                if event.get("logprobs"):
                    target["logprobs"] = [*target["logprobs"], *event["logprobs"]]
            elif kind in ("response.output_text.done", "response.reasoning_text.done"):
                assert items[place]["content"][0]["text"] == event["text"]
            elif kind == "response.function_call_arguments.done":
                assert items[place]["arguments"] == event["arguments"]
            elif kind == "response.output_item.done":
                said = {
                    name: value for name, value in event["item"].items() if name not in ("status", "encrypted_content")
                }
                assert said == {name: value for name, value in items[place].items() if name != "status"}
                items[place] = event["item"]
        return items


def check_response(response: dict[str, Any]) -> dict[str, Any]:
    Response.model_validate(response, strict=True)
    return response


def follow(proxy: Proxy, session: str | None, **fields: Any) -> Followed:
    """Streams one answer to its end."""
    prefix = "" if session is None else f"/sessions/{session}"
    body = {"model": proxy.model, "stream": True, **fields}
    with proxy.http.stream("POST", f"{prefix}/v1/responses", json=body) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        followed = Followed(dict(response.headers))
        name = None
        for line in response.iter_lines():
            if line.startswith(":"):
                followed.comments.append(line)
            elif line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line:
                event = json.loads(line.removeprefix("data: "))
                assert event["type"] == name
                assert event["sequence_number"] == len(followed.events)
                _EVENT.validate_python(event, strict=True)
                followed.events.append(event)
    return followed


def ask(proxy: Proxy, session: str | None, **fields: Any) -> httpx.Response:
    """One whole answer."""
    prefix = "" if session is None else f"/sessions/{session}"
    return proxy.http.post(f"{prefix}/v1/responses", json={"model": proxy.model, **fields})


def answer(proxy: Proxy, session: str | None, **fields: Any) -> dict[str, Any]:
    """The same, which must succeed."""
    response = ask(proxy, session, **fields)
    assert response.status_code == 200, response.text
    return check_response(response.json())
