"""A real agent with a real tool on the embedded real model: 20 turns, PREFIX, VERBATIM and ONCE."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.engines import RecordingEngine
from tests.server.conftest import Proxy, running
from tests.server.invariants import check_all
from tests.server.turns.test_tool_conversations import (
    Echo,
    arguments_changed,
    as_is,
    content_as_parts,
    null_content_as_empty,
    without_call_ids,
    without_nulls,
)
from tickertape.clients.engines.embedded.engine import EmbeddedEngine
from tickertape.renderers.choose import choose_renderer
from tickertape.renderers.tokenizer import Tokenizer
from tickertape.server.settings import Settings

TOOL: Any = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Evaluates an arithmetic expression.",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
    },
}
SYSTEM = "Start the answer to every question with <tool_call>. After <tool_response>, say the answer."
EXAMPLES = [("hat", 25, 13), ("lamp", 58, 24), ("shirt", 31, 16), ("coat", 92, 37)]
QUESTIONS = [
    ("book", 17, 31), ("chair", 89, 64), ("ticket", 46, 73), ("cup", 14, 81), ("pen", 19, 41),
    ("bike", 66, 88), ("table", 92, 61), ("cake", 81, 71), ("cap", 40, 35), ("box", 76, 58),
]  # fmt: skip
#: What a client may do to an assistant message on its way back, another one each turn.
ECHOES: list[Echo] = [
    as_is,
    null_content_as_empty,
    arguments_changed(lambda text: json.dumps(json.loads(text), indent=1)),
    content_as_parts,
    without_call_ids,
    arguments_changed(json.loads),
    without_nulls,
]


def question(thing: str, price: int, count: int) -> str:
    return f"A {thing} costs {price} dollars. How much are {count} {thing}s?"


def worked_examples(number: int = 4) -> Iterator[dict[str, Any]]:
    """A tiny model learns from what it sees: questions with their calls and answers."""
    for thing, price, count in EXAMPLES[:number]:
        arguments = json.dumps({"expression": f"{price} * {count}"})
        call = {
            "id": f"example_{thing}",
            "type": "function",
            "function": {"name": "calculator", "arguments": arguments},
        }
        yield {"role": "user", "content": question(thing, price, count)}
        yield {"role": "assistant", "content": None, "tool_calls": [call]}
        yield {"role": "tool", "tool_call_id": call["id"], "content": str(price * count)}
        yield {"role": "assistant", "content": f"They cost {price * count} dollars."}


def calculate(arguments: str) -> str:
    """The tool: the product of two numbers, or what is wrong."""
    try:
        found = re.fullmatch(r"\s*(\d+)\s*\*\s*(\d+)\s*", json.loads(arguments)["expression"])
    except (ValueError, KeyError, TypeError) as error:
        return f"error: {error!r}"
    return str(int(found[1]) * int(found[2])) if found else "error: not a product of two numbers"


@pytest.fixture(scope="module")
def proxy(
    tmp_path_factory: pytest.TempPathFactory, smollm2_file: Path, smollm2_tokenizer: Tokenizer
) -> Iterator[tuple[Proxy, RecordingEngine]]:
    engine = RecordingEngine(EmbeddedEngine(smollm2_file, smollm2_tokenizer, context=4096, parallel=2, threads=1))
    settings = Settings(port=0, db=tmp_path_factory.mktemp("tape") / "tape.db")
    with running(engine, choose_renderer(smollm2_tokenizer), settings) as proxy:
        yield proxy, engine


@pytest.mark.parametrize("n_turns", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_prefix_verbatim_once_over_the_turns_of_a_real_agent(
    proxy: tuple[Proxy, RecordingEngine], session: str, n_turns: int
) -> None:
    server, engine = proxy
    engine.calls.clear()
    messages: list[Any] = [{"role": "system", "content": SYSTEM}, *worked_examples(2 if n_turns < 20 else 4)]
    questions, outcomes = iter(QUESTIONS), []
    with openai.OpenAI(base_url=server.tape.agent_base_url(session), api_key="none", max_retries=0) as client:
        messages.append({"role": "user", "content": question(*next(questions))})
        for turn in range(n_turns):
            choice = client.chat.completions.create(
                model=server.model, messages=messages, tools=[TOOL], temperature=0, max_tokens=48
            ).choices[0]
            outcomes.append(choice.finish_reason)
            said = choice.message.model_dump(include={"role", "content", "tool_calls"})
            messages.append(ECHOES[turn % len(ECHOES)](said))
            for call in choice.message.tool_calls or ():
                result = calculate(call.function.arguments)  # type: ignore[union-attr]
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
            if not choice.message.tool_calls:
                messages.append({"role": "user", "content": question(*next(questions, QUESTIONS[0]))})
    turns = check_all(server.tape, session, engine.calls)
    assert [turn.fork_reason for turn in turns] == [None] * n_turns
    assert len(server.tape.samples(session)) == 1
    assert outcomes.count("tool_calls") >= n_turns // 4, f"the model calls its tool: {outcomes}"
    assert outcomes.count("stop") >= n_turns // 4
