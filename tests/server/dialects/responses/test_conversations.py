"""Whole sessions over Responses: PREFIX, VERBATIM, ONCE, by history and by ``previous_response_id``."""

import json
from typing import Any

import pytest

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, StartProxy, qwen3_tokenizer
from tests.server.dialects.responses.following import answer, ask, follow
from tests.server.invariants import check_all
from tickertape.clients.engines.engine import Sampling

TOOLS = [
    {"type": "function", "name": "look_up", "parameters": {"type": "object", "properties": {"n": {}}}, "strict": True},
    {"type": "custom", "name": "note"},
]
TURNS = 20


def encode(text: str) -> list[int]:
    return qwen3_tokenizer().encode_like_model(text)


def call(name: str, **arguments: Any) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {json.dumps(arguments)}}}\n</tool_call>'


def agent_engine() -> ScriptedEngine:
    """Thinks, speaks and calls tools, several at once in every third turn; the last answer is text."""

    def script(_ids: list[int], _sampling: Sampling) -> list[int]:
        n = (len(engine.calls) - 1) % TURNS
        if n == TURNS - 1:
            return encode("<think>\nEnough.\n</think>\n\nDone.<|im_end|>")
        calls = "\n".join([call("look_up", n=n), *([call("note", input=f"ü {n}")] if n % 3 == 0 else [])])
        speech = "" if n % 2 else f"Step {n}.\n"
        return encode(f"<think>\nTurn {n}.\n</think>\n\n{speech}{calls}<|im_end|>")

    engine = ScriptedEngine(script, max_context=100_000)
    return engine


def results(output: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the tools say to an answer."""
    calls = [item for item in output if item["type"] in ("function_call", "custom_tool_call")]
    return [
        {"type": f"{call['type']}_output", "call_id": call["call_id"], "output": f"result {k}"}
        for k, call in enumerate(calls)
    ]


def run_agent(proxy: Proxy, session: str | None, *, streams: bool, keeps: str, **fields: Any) -> list[dict[str, Any]]:
    """One session of an agent; ``keeps``: ``history`` or the ``id`` of the response before. Gives its responses."""
    asked: list[dict[str, Any]] = [{"role": "user", "content": "Look things up."}]
    told = []
    for _ in range(TURNS):
        wanted = {"input": asked, "instructions": "Be quick.", "tools": TOOLS, **fields}
        if keeps == "id" and told:
            wanted["previous_response_id"] = told[-1]["id"]
        response = follow(proxy, session, **wanted).response if streams else answer(proxy, session, **wanted)
        told.append(response)
        new = results(response["output"])
        asked = new if keeps == "id" else [*asked, *response["output"], *new]
        if not new:
            break
    return told


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("keeps", ["history", "id"])
def test_session_of_20_tool_turns_is_one_sample(
    start_proxy: StartProxy, session: str, keeps: str, streams: bool
) -> None:
    proxy = start_proxy(engine := agent_engine())
    told = run_agent(proxy, session, streams=streams, keeps=keeps)
    assert len(told) == TURNS
    turns = check_all(proxy.tape, session, engine.calls)
    assert [turn.fork_reason for turn in turns] == [None] * TURNS
    assert [turn.parent_id for turn in turns] == [None, *(turn.id for turn in turns[:-1])]
    (sample,) = proxy.tape.samples(session)
    assert len(sample.turn_ids) == TURNS
    assert [response["id"] for response in told] == [f"resp_{turn.id}" for turn in turns]


def test_streamed_and_whole_sessions_have_the_same_tokens(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(engine := agent_engine())
    for keeps in ("history", "id"):
        for streams in (False, True):
            run_agent(proxy, f"{session}-{keeps}-{streams}", streams=streams, keeps=keeps)
    sessions = [engine.calls[k : k + TURNS] for k in range(0, 4 * TURNS, TURNS)]
    tokens = [[(c.prompt_ids, c.token_ids) for c in calls] for calls in sessions]
    assert len(tokens[0]) == TURNS
    assert tokens[1:] == tokens[:1] * 3


def test_sealed_reasoning_comes_back_and_is_read_where_history_is_rendered_anew(
    start_proxy: StartProxy, session: str
) -> None:
    proxy = start_proxy(engine := agent_engine())
    include = ["reasoning.encrypted_content"]
    first = answer(proxy, session, input="Hello", tools=TOOLS, include=include, store=False)
    reasoning, *said = first["output"]
    sealed = {"type": "reasoning", "summary": [], "encrypted_content": reasoning["encrypted_content"]}
    history = [{"role": "user", "content": "Hello"}, sealed, *said, *results(first["output"])]
    answer(proxy, f"{session}-other", input=history, tools=TOOLS, store=False)
    assert "Turn 0." in qwen3_tokenizer().decode(engine.calls[1].prompt_ids)
    damaged = {**sealed, "encrypted_content": sealed["encrypted_content"][:-8] + "AAAAAAA="}
    refused = ask(proxy, session, input=[history[0], damaged, *history[2:]], tools=TOOLS)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "input[1].encrypted_content"


@pytest.mark.parametrize("without", ["ids", "reasoning"])
def test_history_without_ids_or_reasoning_is_known_again(start_proxy: StartProxy, session: str, without: str) -> None:
    proxy = start_proxy(engine := agent_engine())
    history: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]
    for _ in range(6):
        output = answer(proxy, session, input=history, tools=TOOLS)["output"]
        if without == "ids":
            output = [{k: v for k, v in item.items() if k not in ("id", "status")} for item in output]
        else:
            output = [item for item in output if item["type"] != "reasoning"]
        history += [*output, *results(output)]
    turns = check_all(proxy.tape, session, engine.calls)
    assert [turn.fork_reason for turn in turns] == [None] * 6


def test_calls_told_with_their_results_in_between_are_one_answer(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(engine := agent_engine())
    first = answer(proxy, session, input="Hello", tools=TOOLS)
    reasoning, message, one, two = first["output"]
    mixed = [reasoning, message, one, *results([one]), two, *results([two])]
    answer(proxy, session, input=[{"role": "user", "content": "Hello"}, *mixed], tools=TOOLS)
    turns = check_all(proxy.tape, session, engine.calls)
    assert turns[1].parent_id == turns[0].id


def test_speech_behind_a_call_is_known_again(start_proxy: StartProxy, session: str) -> None:
    said = f"First\n{call('look_up', n=1)}\nmore words<|im_end|>"
    proxy = start_proxy(engine := ScriptedEngine(lambda _ids, _sampling: encode(said)))
    first = answer(proxy, session, input="Hello", tools=TOOLS)
    assert [item["type"] for item in first["output"]] == ["message", "function_call", "message"]
    history = [{"role": "user", "content": "Hello"}, *first["output"], *results(first["output"])]
    answer(proxy, session, input=history, tools=TOOLS)
    turns = check_all(proxy.tape, session, engine.calls)
    assert turns[1].parent_id == turns[0].id


def test_previous_response_may_be_gone_on_from_twice(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(engine := agent_engine())
    first = answer(proxy, session, input="Hello", tools=TOOLS)
    for text in ("left", "right"):
        asked = [*results(first["output"]), {"role": "user", "content": text}]
        answer(proxy, session, input=asked, previous_response_id=first["id"], tools=TOOLS)
    turns = check_all(proxy.tape, session, engine.calls)
    assert [turn.parent_id for turn in turns] == [None, turns[0].id, turns[0].id]
    assert turns[2].fork_reason == "sibling"


def test_instructions_are_not_carried_over(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(engine := agent_engine())
    first = answer(proxy, session, input="Hello", tools=TOOLS, instructions="Speak Bavarian.")
    fields = {"input": results(first["output"]), "previous_response_id": first["id"], "tools": TOOLS}
    answer(proxy, session, **fields, instructions="Speak Low German.")
    answer(proxy, session, **fields)
    shown = [qwen3_tokenizer().decode(c.prompt_ids) for c in engine.calls]
    assert "Bavarian" in shown[0]
    assert "Low German" in shown[1]
    assert "Bavarian" not in shown[1]
    assert "Speak" not in shown[2]
    assert all("Hello" in text for text in shown)


@pytest.mark.parametrize("keeps", ["history", "id"])
def test_session_is_found_where_none_is_named(start_proxy: StartProxy, keeps: str) -> None:
    proxy = start_proxy(engine := agent_engine())
    told = run_agent(proxy, None, streams=False, keeps=keeps)
    (listed,) = proxy.http.get("/sessions").json()["sessions"]
    check_all(proxy.tape, listed["id"], engine.calls)
    assert len(told) == listed["turns"] == TURNS


def test_previous_response_of_another_session_or_unknown_or_not_stored_is_not_found(
    start_proxy: StartProxy, session: str
) -> None:
    proxy = start_proxy(agent_engine())
    stored = answer(proxy, session, input="Hello")
    unstored = answer(proxy, session, input="Hello you", store=False)
    for name, where in ((stored["id"], "other"), ("resp_nothing", session), (unstored["id"], session)):
        for streams in (False, True):
            response = ask(proxy, where, input="Go on", previous_response_id=name, stream=streams)
            assert response.status_code == 404
            error = response.json()["error"]
            assert (error["param"], error["code"]) == ("previous_response_id", "previous_response_not_found")
    assert [turn.outcome for turn in proxy.tape.turns(session)] == ["tool_calls", "tool_calls", *["rejected"] * 4]


def test_retry_of_a_request_with_a_previous_response_is_not_sampled_again(
    start_proxy: StartProxy, session: str
) -> None:
    proxy = start_proxy(engine := agent_engine())
    first = answer(proxy, session, input="Hello", tools=TOOLS)
    fields = {"input": results(first["output"]), "previous_response_id": first["id"], "tools": TOOLS}
    assert answer(proxy, session, **fields) == answer(proxy, session, **fields)
    assert len(engine.calls) == 2


def test_chat_turns_and_responses_share_a_session(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(engine := ScriptedEngine(lambda _ids, _sampling: encode("Hi there<|im_end|>")))
    proxy.chat(session, [{"role": "user", "content": "Hello"}])
    history = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi there"}]
    second = answer(proxy, session, input=[*history, {"role": "user", "content": "Go on"}])
    answer(proxy, session, input="And on", previous_response_id=second["id"])
    turns = check_all(proxy.tape, session, engine.calls)
    assert [turn.parent_id for turn in turns] == [None, turns[0].id, turns[1].id]
