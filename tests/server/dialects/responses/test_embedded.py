"""A real agent on the embedded real model over Responses: whole and streamed, at the same seeds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines import RecordingEngine
from tests.server.calls.test_embedded_agent import QUESTIONS, SYSTEM, TOOL, calculate, question, worked_examples
from tests.server.conftest import Proxy, running
from tests.server.dialects.responses.following import answer, follow
from tests.server.invariants import check_all
from tickertape.clients.engines.embedded.engine import EmbeddedEngine
from tickertape.renderers.choose import choose_renderer
from tickertape.renderers.tokenizer import Tokenizer
from tickertape.server.settings import Settings

TURNS = 3
CALCULATOR = {"type": "function", **TOOL["function"]}


@pytest.fixture(scope="module")
def proxy(
    tmp_path_factory: pytest.TempPathFactory, smollm2_file: Path, smollm2_tokenizer: Tokenizer
) -> Iterator[tuple[Proxy, RecordingEngine]]:
    engine = RecordingEngine(EmbeddedEngine(smollm2_file, smollm2_tokenizer, context=4096, parallel=2, threads=1))
    settings = Settings(port=0, db=tmp_path_factory.mktemp("tape") / "tape.db")
    with running(engine, choose_renderer(smollm2_tokenizer), settings) as proxy:
        yield proxy, engine


def examples() -> Iterator[dict[str, Any]]:
    """The worked examples as items."""
    for message in worked_examples():
        if message["role"] == "tool":
            yield {"type": "function_call_output", "call_id": message["tool_call_id"], "output": message["content"]}
        elif message.get("tool_calls"):
            (call,) = message["tool_calls"]
            yield {"type": "function_call", "call_id": call["id"], **call["function"]}
        else:
            yield message


def run_agent(server: Proxy, session: str, *, streams: bool, keeps: str) -> list[list[dict[str, Any]]]:
    """What the model said in each turn, without ids."""
    questions = iter(QUESTIONS)
    asked: list[dict[str, Any]] = [*examples(), {"role": "user", "content": question(*next(questions))}]
    previous, said = None, []
    for turn in range(TURNS):
        fields = {"instructions": SYSTEM, "tools": [CALCULATOR], "temperature": 0.3, "seed": turn}
        wanted = {**fields, "input": asked, "previous_response_id": previous, "max_output_tokens": 48}
        response = follow(server, session, **wanted).response if streams else answer(server, session, **wanted)
        output = response["output"]
        new = [
            {"type": "function_call_output", "call_id": item["call_id"], "output": calculate(item["arguments"])}
            for item in output
            if item["type"] == "function_call"
        ] or [{"role": "user", "content": question(*next(questions, QUESTIONS[0]))}]
        asked = new if keeps == "id" else [*asked, *output, *new]
        previous = response["id"] if keeps == "id" else None
        said.append([{k: v for k, v in item.items() if k not in ("id", "call_id")} for item in output])
    return said


@pytest.mark.slow
def test_turns_whole_and_streamed_say_the_same_and_train_as_one_sample(
    proxy: tuple[Proxy, RecordingEngine], session: str
) -> None:
    server, engine = proxy
    said, tokens = [], []
    for streams, keeps in ((False, "history"), (True, "history"), (True, "id")):
        engine.calls.clear()
        name = f"{session}-{streams}-{keeps}"
        said.append(run_agent(server, name, streams=streams, keeps=keeps))
        turns = check_all(server.tape, name, engine.calls)
        assert [turn.fork_reason for turn in turns] == [None] * TURNS
        assert len(server.tape.samples(name)) == 1
        tokens.append([turn.completion.tolist() for turn in turns])
    assert said[1:] == said[:1] * 2
    assert tokens[1:] == tokens[:1] * 2
    calls = [item for output in said[0] for item in output if item["type"] == "function_call"]
    assert len(calls) >= 1, "the model calls its tool"
