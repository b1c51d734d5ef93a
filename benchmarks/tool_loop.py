"""An agent's tool loop through everything of Tickertape but HTTP: dialect, tree, renderer, tape.

The engine samples what it is told to, at once.
"""

import json
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from benchmarks.conversation import TOOLS, tool_result, words
from tickertape.clients.engines.engine import Chunk, Engine, EngineInfo, Sampling, TokenIds
from tickertape.renderers.choose import Choice
from tickertape.server.store.store import Store
from tickertape.server.turns.renderer_pool import RendererPool
from tickertape.server.turns.sessions import Sessions
from tickertape.server.turns.turns import Turns

Message = dict[str, Any]


class ToldEngine(Engine):
    """Samples ``completion``."""

    def __init__(self) -> None:
        self.completion: list[int] = []
        self.info = EngineInfo("told", "nowhere", "told", 10**6)

    async def start(self) -> EngineInfo:
        return self.info

    async def check(self) -> None:
        return

    async def close(self) -> None:
        return

    async def generate(
        self,
        prompt_ids: TokenIds,  # noqa: ARG002
        sampling: Sampling,  # noqa: ARG002
        *,
        request_id: str,  # noqa: ARG002
        chunk_tokens: int = 1,  # noqa: ARG002
    ) -> AsyncGenerator[Chunk, None]:
        yield Chunk(self.completion, [-0.5] * len(self.completion), finish_reason="stop")


@asynccontextmanager
async def running_turns(choice: Choice) -> AsyncIterator[tuple[Turns, ToldEngine]]:
    """What takes turns, over a tape in a temporary directory."""
    engine = ToldEngine()
    with tempfile.TemporaryDirectory() as directory:
        store = Store(Path(directory) / "tape.db")
        try:
            yield Turns(engine, engine.info, RendererPool(choice), store, Sessions(store)), engine
        finally:
            store.close()


def opening(number: int) -> list[Message]:
    """The messages of a first request."""
    return [
        {"role": "system", "content": "You are a careful engineer."},
        {"role": "user", "content": f"Make the tests of task {number} pass.\n{words(number, 1)}"},
    ]


def thought(number: int) -> str:
    return words(number, 1).strip()


def next_messages(answer: Message, number: int) -> list[Message]:
    """What an agent does behind an answer: the results of its calls, or a further task."""
    results = [{**tool_result(number), "tool_call_id": call["id"]} for call in answer.get("tool_calls") or ()]
    return results or [{"role": "user", "content": f"Thank you. Now task {number}."}]


def body(messages: list[Message]) -> bytes:
    """A request."""
    return orjson.dumps({"model": "told", "messages": messages, "tools": TOOLS})


def hermes_call(number: int, *, tidy: bool) -> str:
    """A tool call in Qwen3's format: tidy, to the letter as its template writes calls, or with spaces left out."""
    comma, colon = (", ", ": ") if tidy else (",", ":")
    call = {"name": "read_file", "arguments": {"path": f"src/module_{number}.py"}}
    return f"\n<tool_call>\n{json.dumps(call, separators=(comma, colon))}\n</tool_call>"


def xml_call(number: int, *, tidy: bool) -> str:
    """The same in Qwen3.5's, or with one line break instead of two before it."""
    parameter = f"<parameter=path>\nsrc/module_{number}.py\n</parameter>"
    gap = "\n\n" if tidy else "\n"
    return f"{gap}<tool_call>\n<function=read_file>\n{parameter}\n</function>\n</tool_call>"
