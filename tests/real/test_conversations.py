"""20-turn conversations through the proxy on real engines: what is on tape is what the engine computed.

PREFIX, VERBATIM and ONCE hold, one sample results, the engine's echo of it is the tape, and one prefill of the whole
sample gives the logprobs that were recorded turn by turn. Beside it stands what training on the re-rendered messages
would have computed instead.
"""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tokenizers
import transformers

from tests.engines import RecordingEngine
from tests.real.conftest import StartServer
from tests.real.engines import Kind, RealServer
from tests.real.models import smollm2, tiny_model
from tests.server.calls.test_embedded_agent import QUESTIONS, SYSTEM, TOOL, calculate, question, worked_examples
from tests.server.conftest import Proxy, running
from tests.server.invariants import check_all
from tests.server.reading_along import read_along
from tickertape.clients import Sample
from tickertape.clients.engines.engine import Engine, Scored
from tickertape.clients.engines.sglang.engine import SglangEngine
from tickertape.clients.engines.vllm.engine import VllmEngine
from tickertape.renderers.choose import choose_renderer
from tickertape.renderers.tokenizer import Tokenizer
from tickertape.server.settings import Settings

pytestmark = pytest.mark.real

TURNS = 20
#: In float32. One prefill multiplies the same numbers in another order than decoding token by token does.
TOLERANCE = 1e-3
CLIENTS: dict[Kind, type[VllmEngine] | type[SglangEngine]] = {"vllm": VllmEngine, "sglang": SglangEngine}


@dataclass
class Rollout:
    """A conversation that is over."""

    messages: list[dict[str, Any]]
    sample: Sample
    finish_reasons: list[str]


def converse(
    proxy: Proxy, engine: RecordingEngine, session: str, agent: Iterator[Any], *, streamed: bool = False, **fields: Any
) -> Rollout:
    """Lets an agent take 20 turns; it is sent each answer and yields the messages that come next.

    Args:
        proxy: where.
        engine: the proxy's, which has recorded nothing else.
        session: the session.
        agent: first yields the messages that the conversation begins with.
        streamed: whether answers are streamed.
        **fields: of every request.
    """
    proxy.http.timeout = httpx.Timeout(300)  # engines on CPU, beside whatever else the machine does
    messages, finish_reasons = list(next(agent)), []
    for _ in range(TURNS):
        message, finish_reason = answer(proxy, session, messages, streamed=streamed, **fields)
        finish_reasons.append(finish_reason)
        messages += [message, *agent.send(message)]
    turns = check_all(proxy.tape, session, engine.calls)
    assert [turn.fork_reason for turn in turns] == [None] * TURNS
    (sample,) = proxy.tape.samples(session)
    return Rollout(messages, sample, finish_reasons)


def answer(
    proxy: Proxy, session: str, messages: list[dict[str, Any]], *, streamed: bool, **fields: Any
) -> tuple[dict[str, Any], str]:
    if streamed:
        heard = read_along(proxy, session, messages, **fields)
        (finish_reason,) = heard.finish_reasons()
        return heard.message(), finish_reason
    response = proxy.chat(session, messages, **fields)
    assert response.status_code == 200, response.text
    choice = response.json()["choices"][0]
    return choice["message"], choice["finish_reason"]


def talker() -> Iterator[Any]:
    """Goes on whatever is said: by a question, or by what a tool says, in turn."""
    said = yield [{"role": "system", "content": "You are careful."}, {"role": "user", "content": "Begin."}]
    for turn in range(TURNS):
        if said.get("tool_calls"):
            said = yield [{"role": "tool", "tool_call_id": c["id"], "content": "42 ü 好"} for c in said["tool_calls"]]
        else:
            said = yield [{"role": "user", "content": f"Go on, number {turn}: <|im_end|> is only text.\n\n  And?"}]


def customer() -> Iterator[Any]:
    """Asks what things cost, and runs the calculator that the model calls."""
    questions = iter(QUESTIONS * TURNS)
    ask = {"role": "user", "content": question(*next(questions))}
    said = yield [{"role": "system", "content": SYSTEM}, *worked_examples(), ask]
    while True:
        results = [
            {"role": "tool", "tool_call_id": call["id"], "content": calculate(call["function"]["arguments"])}
            for call in said.get("tool_calls") or ()
        ]
        said = yield results or [{"role": "user", "content": question(*next(questions))}]


def proxied(server: RealServer, directory: Path) -> Any:
    """A proxy in front of a real engine, and the record of what went through."""
    engine = RecordingEngine(CLIENTS[server.kind](server.url))
    choice = choose_renderer(Tokenizer.load(server.model))
    return engine, running(engine, choice, Settings(port=0, db=directory / "tape.db"))


def score(server: RealServer, token_ids: list[int]) -> Scored:
    async def run(engine: Engine) -> Scored:
        await engine.start()
        try:
            return await engine.score(token_ids)
        finally:
            await engine.close()

    return asyncio.run(run(CLIENTS[server.kind](server.url)))


def check_recomputed(server: RealServer, sample: Sample, tolerance: float = TOLERANCE) -> Scored:
    """One prefill of the sample echoes its tokens and gives its logprobs."""
    whole = score(server, sample.token_ids.tolist())
    assert whole.token_ids == sample.token_ids.tolist()
    trained = sample.loss_mask.astype(bool)
    off = np.abs(np.array(whole.logprobs)[trained] - sample.logprobs[trained])
    print(
        f"\n{server.kind}: {trained.sum()} sampled tokens of {len(trained)}, recomputed in one prefill: "
        f"max |Δ| {off.max():.2e}, mean {off.mean():.2e}"
    )
    assert off.max() <= tolerance
    assert np.abs(sample.logprobs[trained]).mean() > 1e-3, "there is something to recompute"
    return whole


def print_rerendered(server: RealServer, rollout: Rollout, tools: list[Any] | None = None) -> None:
    """What a trainer would compute that renders the messages anew and tokenises the text."""
    backend = tokenizers.Tokenizer.from_file(str(server.model / "tokenizer.json"))
    template = transformers.AutoTokenizer.from_pretrained(server.model)
    text = template.apply_chat_template(for_template(rollout.messages), tools=tools, tokenize=False)
    encoding = backend.encode(text, add_special_tokens=False)
    scored = score(server, encoding.ids)
    answers = list(answer_spans(text))[-TURNS:]
    same, apart, sums = 0, [], []
    for turn, recorded in zip(answers, turn_slices(rollout.sample), strict=True):
        at = [k for k, (start, end) in enumerate(encoding.offsets) if turn[0] <= start < turn[1]]
        ids, values = [encoding.ids[k] for k in at], np.array([scored.logprobs[k] for k in at])
        tape_ids = rollout.sample.token_ids[recorded]
        tape_values = rollout.sample.logprobs[recorded]
        sums.append(abs(values.sum() - tape_values.sum()))
        if ids == tape_ids[: len(ids)].tolist():
            same += 1
            apart += np.abs(values - tape_values[: len(ids)]).tolist()
    print(
        f"{server.kind}: re-rendered from messages, {same} of {TURNS} answers have the tokens that were sampled"
        + (f" (logprobs of those: max |Δ| {max(apart):.2e})" if apart else "")
        + f"; log-likelihoods of answers are off by max {max(sums):.1f}, mean {np.mean(sums):.1f}"
    )


def for_template(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As templates want them: arguments of calls as objects, no nulls."""
    plain = [{name: value for name, value in message.items() if value is not None} for message in messages]
    for message in plain:
        if "tool_calls" in message:
            message["tool_calls"] = [
                {**call, "function": {**call["function"], "arguments": json.loads(call["function"]["arguments"])}}
                for call in message["tool_calls"]
            ]
    return plain


def answer_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where a ChatML text has the assistant's answers, end token included."""
    header, end = "<|im_start|>assistant\n", "<|im_end|>"
    at = text.find(header)
    while at >= 0:
        start = at + len(header)
        stop = text.index(end, start) + len(end)
        yield start, stop
        at = text.find(header, stop)


def turn_slices(sample: Sample) -> Iterator[slice]:
    """The runs of sampled tokens."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], sample.loss_mask, [0]])))
    for start, stop in edges.reshape(-1, 2).tolist():
        yield slice(start, stop)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_tiny_model_over_20_turns(server: RealServer, tmp_path: Path, session: str, streamed: bool) -> None:
    """Random tokens, which no tokenizer would split that way: the hardest text to get back."""
    engine, proxy = proxied(server, tmp_path)
    with proxy as running_proxy:
        rollout = converse(running_proxy, engine, session, talker(), streamed=streamed, max_tokens=32, tools=[TOOL])
    check_recomputed(server, rollout.sample)
    print_rerendered(server, rollout, [TOOL])


def test_recomputing_under_other_weights_does_not_agree(
    server: RealServer, start_server: StartServer, tmp_path: Path, session: str
) -> None:
    """So that agreeing means something."""
    engine, proxy = proxied(server, tmp_path)
    with proxy as running_proxy:
        rollout = converse(running_proxy, engine, session, talker(), max_tokens=4)
    other = start_server(server.kind, tiny_model(1))
    with pytest.raises(AssertionError, match="assert"):
        check_recomputed(other, rollout.sample)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_in_bfloat16_recomputing_agrees_as_far_as_it_rounds(
    start_server: StartServer, kind: Kind, tmp_path: Path, session: str
) -> None:
    server = start_server(kind, dtype="bfloat16")
    engine, proxy = proxied(server, tmp_path)
    with proxy as running_proxy:
        rollout = converse(running_proxy, engine, session, talker(), max_tokens=32, tools=[TOOL])
    check_recomputed(server, rollout.sample, tolerance=0.5)


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_smollm2_calls_its_tool_over_20_turns(
    start_server: StartServer, kind: Kind, tmp_path: Path, session: str
) -> None:
    server = start_server(kind, smollm2())
    engine, proxy = proxied(server, tmp_path)
    with proxy as running_proxy:
        fields = {"max_tokens": 48, "temperature": 0, "tools": [TOOL]}
        rollout = converse(running_proxy, engine, session, customer(), streamed=True, **fields)
    assert rollout.finish_reasons.count("tool_calls") >= 5, rollout.finish_reasons
    check_recomputed(server, rollout.sample)  # its template shows no calls: there is nothing to render again
