"""An answer as output items, and the events that tell of them as they grow.

There is one way to write an answer: a complete one is what its events add up to (STREAM). An item is closed before the
next one opens; a model that goes on speaking after a call does so in a new item.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tickertape.renderers.draft import CallDelta, ContentDelta, Delta, ReasoningDelta
from tickertape.server.dialects.responses.input import item_id
from tickertape.server.dialects.responses.opaque_reasoning import encode
from tickertape.server.dialects.responses.tools import Forms, custom_input

#: Without its ``sequence_number``.
Event: TypeAlias = dict[str, Any]
Item: TypeAlias = dict[str, Any]


@dataclass(slots=True)
class Output:
    """The items of one answer.

    Args:
        turn_id: the turn, whose id theirs hold.
        forms: of the tools that were offered.
        seals: whether reasoning is given as ``encrypted_content`` too.
    """

    turn_id: str
    forms: Forms
    seals: bool
    items: list[Item] = field(default_factory=list)
    _kind: type[Delta] | int | None = None
    """Of the open item: a kind of text, or a call's index."""
    _texts: list[str] = field(default_factory=list)
    """Its text so far."""
    _logprobs: list[dict[str, Any]] = field(default_factory=list)
    """Of tokens that are not sent yet."""

    def add_logprobs(self, logprobs: Sequence[dict[str, Any]]) -> None:
        """Of tokens that were sampled. The first message tells them all, those of thoughts and calls too."""
        self._logprobs += logprobs

    def take(self, delta: Delta) -> Iterator[Event]:
        """More of the answer."""
        kind = delta.index if isinstance(delta, CallDelta) else type(delta)
        if kind != self._kind:
            yield from self._close("completed")
            yield from self._open(kind, delta)
        text = delta.arguments if isinstance(delta, CallDelta) else delta.text
        if text:
            self._texts.append(text)
            yield from self._grow(text)

    def finish(self, *, cut: bool) -> Iterator[Event]:
        """The end; ``cut`` if the answer did not get to its own. One that holds nothing is an empty message."""
        status = "incomplete" if cut else "completed"
        kinds = {item["type"] for item in self.items}
        if not kinds or (kinds == {"reasoning"} and not cut):
            yield from self._close("completed")
            yield from self._open(ContentDelta, ContentDelta(""))
        yield from self._close(status)
        first = next((item for item in self.items if item["type"] == "message"), None)
        if first is not None:
            first["content"][0]["logprobs"] += self._told_logprobs()

    # One item.

    @property
    def _place(self) -> dict[str, Any]:
        return {"output_index": len(self.items) - 1, "item_id": self.items[-1]["id"]}

    @property
    def _part_place(self) -> dict[str, Any]:
        return {**self._place, "content_index": 0}

    def _open(self, kind: type[Delta] | int, delta: Delta) -> Iterator[Event]:
        self._kind = kind
        item = self._new_item(delta)
        self.items.append(item)
        yield {"type": "response.output_item.added", "output_index": len(self.items) - 1, "item": dict(item)}
        if not isinstance(delta, CallDelta):
            part = _part(delta)
            yield {"type": "response.content_part.added", **self._part_place, "part": dict(part)}
            item["content"] = [part]

    def _new_item(self, delta: Delta) -> Item:
        index, status = len(self.items), "in_progress"
        if isinstance(delta, ContentDelta):
            id_ = item_id("msg", self.turn_id, index)
            return {"type": "message", "id": id_, "status": status, "role": "assistant", "content": []}
        if isinstance(delta, ReasoningDelta):
            id_ = item_id("rs", self.turn_id, index)
            return {"type": "reasoning", "id": id_, "status": status, "summary": [], "content": []}
        return call_item(delta.name or "", delta.id or "", "", self.forms, self.turn_id, index, status)

    def _grow(self, text: str) -> Iterator[Event]:
        if self._kind is ContentDelta:
            place = self._part_place
            logprobs = self._told_logprobs() if self._is_first_message else []
            self.items[-1]["content"][0]["logprobs"] += logprobs
            yield {"type": "response.output_text.delta", **place, "delta": text, "logprobs": logprobs}
        elif self._kind is ReasoningDelta:
            yield {"type": "response.reasoning_text.delta", **self._part_place, "delta": text}
        elif self.items[-1]["type"] == "function_call":
            yield {"type": "response.function_call_arguments.delta", **self._place, "delta": text}

    def _close(self, status: str) -> Iterator[Event]:
        if self._kind is None:
            return
        item, text = self.items[-1], "".join(self._texts)
        if isinstance(self._kind, int):
            yield from self._close_call(item, text)
        else:
            part = item["content"][0]
            part["text"] = text
            if self._kind is ContentDelta:
                told = {"text": text, "logprobs": list(part["logprobs"])}
                yield {"type": "response.output_text.done", **self._part_place, **told}
            else:
                yield {"type": "response.reasoning_text.done", **self._part_place, "text": text}
                if self.seals:
                    item["encrypted_content"] = encode(text)
            yield {"type": "response.content_part.done", **self._part_place, "part": dict(part)}
        if "status" in item:
            item["status"] = status
        yield {"type": "response.output_item.done", "output_index": len(self.items) - 1, "item": dict(item)}
        self._kind = None
        self._texts.clear()

    def _close_call(self, item: Item, arguments: str) -> Iterator[Event]:
        if item["type"] == "function_call":
            item["arguments"] = arguments
            told = {"name": item["name"], "arguments": arguments}
            yield {"type": "response.function_call_arguments.done", **self._place, **told}
        else:  # its text is inside the arguments' JSON, and known when that is complete
            item["input"] = custom_input(arguments)
            if item["input"]:
                yield {"type": "response.custom_tool_call_input.delta", **self._place, "delta": item["input"]}
            yield {"type": "response.custom_tool_call_input.done", **self._place, "input": item["input"]}

    @property
    def _is_first_message(self) -> bool:
        return all(item["type"] != "message" for item in self.items[:-1])

    def _told_logprobs(self) -> list[dict[str, Any]]:
        told, self._logprobs = self._logprobs, []
        return told


def call_item(name: str, call_id: str, arguments: str, forms: Forms, turn_id: str, index: int, status: str) -> Item:
    """A call as the client knows the tool."""
    form = forms.get(name, {})
    called: Item = {"call_id": call_id, "name": form.get("name", name)}
    if "namespace" in form:
        called["namespace"] = form["namespace"]
    if form.get("type") == "custom":
        id_ = item_id("ctc", turn_id, index)
        text = custom_input(arguments) if arguments else ""
        return {"type": "custom_tool_call", "id": id_, **called, "input": text}
    id_ = item_id("fc", turn_id, index)
    return {"type": "function_call", "id": id_, "status": status, **called, "arguments": arguments}


def _part(delta: Delta) -> dict[str, Any]:
    if isinstance(delta, ReasoningDelta):
        return {"type": "reasoning_text", "text": ""}
    return {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
