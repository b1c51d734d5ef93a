"""Responses that are sent while they are sampled: STREAM, and the order of events."""

from typing import Any

import pytest

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, StartProxy, qwen3_tokenizer
from tests.server.dialects.responses.following import answer, check_response, follow
from tests.server.invariants import check_all
from tickertape.clients.engines.errors import EngineRefused, EngineUnavailable

TOOLS = [
    {"type": "function", "name": "look_up", "parameters": {"type": "object"}, "strict": False},
    {"type": "custom", "name": "patch", "description": "Takes a patch."},
    {
        "type": "namespace",
        "name": "agents",
        "description": "Of agents.",
        "tools": [{"type": "function", "name": "spawn", "parameters": {"type": "object"}, "strict": False}],
    },
]
CALL = '<tool_call>\n{"name": "look_up", "arguments": {"key": "ünï 🦫", "n": [1, 2]}}\n</tool_call>'
CUSTOM = '<tool_call>\n{"name": "patch", "arguments": {"input": "*** ü\\n+x"}}\n</tool_call>'
NAMESPACED = '<tool_call>\n{"name": "agents__spawn", "arguments": {}}\n</tool_call>'
ANSWERS = [
    "Just words.<|im_end|>",
    "<think>\nHm, 🦫?\n</think>\n\nÜber Biber.<|im_end|>",
    f"<think>\nI look it up.\n</think>\n\nWait.\n{CALL}\n{CALL}<|im_end|>",
    f"{CALL}<|im_end|>",
    f"{CUSTOM}\n{NAMESPACED}<|im_end|>",
    f"First\n{CALL}\nand then <think>\nHm\n</think>\nmore<|im_end|>",
    "Words <think>\nand thoughts\n</think> and words<|im_end|>",
    "<tool_call>\n{oops}\n</tool_call> is no call<|im_end|>",
    "<think>\nonly thought\n</think><|im_end|>",
    "<think>\nnever closed",
    "<|im_end|>",
    "One STOP two STOP three",
]


def encode(text: str) -> list[int]:
    return qwen3_tokenizer().encode_like_model(text)


def without_ids(value: Any, turn_id: str) -> Any:
    """What one answer says, told without the ids that are its own."""
    if isinstance(value, dict):
        return {name: without_ids(inner, turn_id) for name, inner in value.items() if not name.endswith("_at")}
    if isinstance(value, list):
        return [without_ids(inner, turn_id) for inner in value]
    if isinstance(value, str):
        return value.replace(turn_id, "T").replace(turn_id[:16], "T")
    return value


@pytest.mark.parametrize("said", ANSWERS)
@pytest.mark.parametrize(
    "fields",
    [{}, {"stop": ["STOP"], "include": ["reasoning.encrypted_content"]}, {"max_output_tokens": 4}],
    ids=["", "stop", "cut"],
)
def test_events_add_up_to_the_whole_answer_and_the_tape_tells_it_again(
    played: tuple[Proxy, ScriptedEngine], session: str, said: str, fields: dict[str, Any]
) -> None:
    proxy, engine = played
    engine.script = lambda _ids, _sampling: encode(said)
    engine.calls.clear()
    followed = follow(proxy, session, input="Hello", tools=TOOLS, **fields)
    streamed = check_response(followed.response)
    assert followed.output() == streamed["output"]
    (turn,) = check_all(proxy.tape, session, engine.calls)
    whole = answer(proxy, f"{session}-whole", input="Hello", tools=TOOLS, **fields)
    assert without_ids(streamed, turn.id) == without_ids(whole, whole["id"].removeprefix("resp_"))
    again = proxy.http.get(f"/v1/responses/{streamed['id']}").json()
    assert again == streamed
    replayed = follow(proxy, session, input="Hello", tools=TOOLS, **fields)
    assert replayed.headers["x-tickertape-replayed"] == "true"
    assert (replayed.output(), replayed.response) == (followed.output(), streamed)


def test_events_come_in_openais_order(start_proxy: StartProxy, session: str) -> None:
    said = f"<think>\nA thought\n</think>\n\nWait.\n{CALL}\n{CUSTOM}<|im_end|>"
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: encode(said)))
    kinds = follow(proxy, session, input="Hello", tools=TOOLS).kinds
    assert [kind for k, kind in enumerate(kinds) if not k or kinds[k - 1] != kind] == [
        "created", "in_progress",
        "output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.done", "content_part.done",
        "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done",
        "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
        "output_item.added", "custom_tool_call_input.delta", "custom_tool_call_input.done", "output_item.done",
        "completed",
    ]  # fmt: skip


def test_calls_are_told_in_the_clients_terms(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: encode(f"{CUSTOM}\n{NAMESPACED}<|im_end|>")))
    told = answer(proxy, session, input="Hello", tools=TOOLS)
    custom, namespaced = told["output"]
    assert (custom["type"], custom["name"], custom["input"]) == ("custom_tool_call", "patch", "*** ü\n+x")
    assert (namespaced["namespace"], namespaced["name"]) == ("agents", "spawn")
    shown = [{name: value for name, value in tool.items() if value is not None} for tool in told["tools"]]
    shown[2]["tools"] = [{k: v for k, v in tool.items() if v is not None} for tool in shown[2]["tools"]]
    assert shown == TOOLS


def test_length_makes_an_answer_incomplete(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: encode("one two three four five")))
    followed = follow(proxy, session, input="Hello", max_output_tokens=2)
    assert followed.kinds[-1] == "incomplete"
    assert followed.response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [item["status"] for item in followed.output()] == ["incomplete"]


def test_usage_counts_what_is_on_tape(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: encode("<think>\nA b\n</think>\n\nHi<|im_end|>")))
    usage = answer(proxy, session, input="Hello")["usage"]
    (turn,) = proxy.tape.turns(session)
    assert (usage["input_tokens"], usage["output_tokens"]) == (len(turn.prompt_delta), len(turn.completion))
    thought = encode("<think>\nA b\n")
    assert turn.completion.tolist()[: len(thought)] == thought
    assert usage["output_tokens_details"] == {"reasoning_tokens": len(thought)}
    assert follow(proxy, f"{session}-2", input="Hello").response["usage"] == usage


def test_logprobs_are_told_as_on_tape(start_proxy: StartProxy, session: str) -> None:
    said = f"<think>\nHm\n</think>\n\nHi you\n{CALL}<|im_end|>"
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: encode(said)))
    asked = {"input": "Hello", "tools": TOOLS, "include": ["message.output_text.logprobs"]}
    followed = follow(proxy, session, **asked)
    (turn,) = proxy.tape.turns(session)
    told = followed.response["output"][1]["content"][0]["logprobs"]
    assert [entry["logprob"] for entry in told] == turn.logprobs.tolist()
    assert bytes(b for entry in told for b in entry["bytes"]).decode() == said
    streamed = [entry for event in followed.events for entry in event.get("logprobs", ()) if "delta" in event]
    assert streamed == told[: len(streamed)]
    assert len(streamed) > 3
    assert answer(proxy, f"{session}-2", **asked)["output"][1]["content"][0]["logprobs"] == told
    assert proxy.http.get(f"/v1/responses/{followed.response['id']}").json() == followed.response


def test_failure_before_the_first_token_has_its_own_status(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: [EngineRefused("no such thing", param="seed")]))
    body = {"model": proxy.model, "input": "Hello", "stream": True}
    response = proxy.http.post(f"/sessions/{session}/v1/responses", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "seed"


def test_failure_midway_is_an_error_and_a_failed_response(start_proxy: StartProxy, session: str) -> None:
    broken = [*encode("So far so good"), EngineUnavailable("it fell over")]
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: broken))
    followed = follow(proxy, session, input="Hello")
    assert followed.kinds[-2:] == ["error", "failed"]
    assert followed.events[-2]["code"] == "engine_unavailable"
    assert followed.response["error"]["code"] == "server_error"
    (turn,) = proxy.tape.turns(session)
    assert (turn.outcome, turn.completion.tolist()) == ("engine_error", broken[:-1])
    again = check_response(proxy.http.get(f"/v1/responses/{followed.response['id']}").json())
    assert again["status"] == "failed"
    assert again["output"][0]["content"][0]["text"] == "So far so good"


def test_silence_is_broken_by_heartbeats(start_proxy: StartProxy, session: str) -> None:
    engine = ScriptedEngine(lambda _ids, _sampling: encode("Hi<|im_end|>"), delay=0.3)
    assert len(follow(start_proxy(engine, heartbeat=0.1), session, input="Hello").comments) > 1
