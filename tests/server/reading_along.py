"""A client that reads along: chat streams over plain HTTP, each event checked against OpenAI's own types."""

import json
from dataclasses import dataclass, field
from typing import Any

from openai.types.chat import ChatCompletionChunk

from tests.server.conftest import Proxy


@dataclass
class Heard:
    """One streamed answer."""

    headers: dict[str, str]
    chunks: list[dict[str, Any]] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    error: dict[str, Any] | None = None
    done: bool = False

    def message(self, choice: int = 0) -> dict[str, Any]:
        """All deltas of a choice together, in the shape of a whole answer's message."""
        message: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
        calls: list[dict[str, Any]] = []
        for delta in self.deltas(choice):
            message["content"] += delta.get("content") or ""
            if "reasoning_content" in delta:
                message["reasoning_content"] = message.get("reasoning_content", "") + delta["reasoning_content"]
            for call in delta.get("tool_calls", ()):
                if call["index"] == len(calls):
                    calls.append({"id": call["id"], "type": call["type"], "function": dict(call["function"])})
                else:
                    calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
        if calls:
            message |= {"content": message["content"] or None, "tool_calls": calls}
        return message

    def deltas(self, choice: int = 0) -> list[dict[str, Any]]:
        return [c["delta"] for chunk in self.chunks for c in chunk["choices"] if c["index"] == choice]

    def logprobs(self, choice: int = 0) -> list[dict[str, Any]]:
        told = [c["logprobs"] for chunk in self.chunks for c in chunk["choices"] if c["index"] == choice]
        return [entry for each in told if each for entry in each["content"]]

    def finish_reasons(self) -> list[str]:
        return [c["finish_reason"] for chunk in self.chunks for c in chunk["choices"] if c["finish_reason"]]


def read_along(proxy: Proxy, session: str, messages: list[dict[str, Any]], **fields: Any) -> Heard:
    """Streams one answer to its end."""
    body = {"model": proxy.model, "messages": messages, "stream": True, **fields}
    with proxy.http.stream("POST", f"/sessions/{session}/v1/chat/completions", json=body) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        heard = Heard(dict(response.headers))
        for line in response.iter_lines():
            take_line(heard, line)
    return heard


def take_line(heard: Heard, line: str) -> None:
    assert not heard.done or not line, f"after the end: {line}"
    if line.startswith(":"):
        heard.comments.append(line)
    elif line == "data: [DONE]":
        heard.done = True
    elif line:
        assert line.startswith("data: "), line
        event = json.loads(line.removeprefix("data: "))
        if "error" in event:
            heard.error = event["error"]
            return
        ChatCompletionChunk.model_validate(event, strict=True)
        heard.chunks.append(event)
