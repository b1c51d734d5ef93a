"""Answers given again by their id, deleted, not cancelled, and what they answered."""

import time
from pathlib import Path
from typing import Any

import pytest
from openai.types.responses import ResponseItem
from pydantic import TypeAdapter

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, StartProxy, qwen3_tokenizer, scripted, until
from tests.server.dialects.responses.following import answer, ask
from tests.server.invariants import check_all

CALL = '<tool_call>\n{"name": "look_up", "arguments": {}}\n</tool_call>'
TOOLS = [{"type": "function", "name": "look_up", "parameters": {"type": "object"}}]
SAID = f"<think>\nHm\n</think>\n\nWait.\n{CALL}<|im_end|>"
_ITEM: TypeAdapter[Any] = TypeAdapter(ResponseItem)


def engine() -> ScriptedEngine:
    return ScriptedEngine(lambda _ids, _sampling: qwen3_tokenizer().encode_like_model(SAID))


def refused(proxy: Proxy, method: str, path: str) -> tuple[int, str | None]:
    response = proxy.http.request(method, path)
    return response.status_code, response.json()["error"]["code"]


NOT_FOUND = (404, "not_found")


def test_answer_is_given_again_after_a_restart(tmp_path: Path, session: str) -> None:
    fields = {
        "instructions": "Be quick.", "temperature": 0.5, "metadata": {"a": "b"}, "user": "u", "max_output_tokens": 100,
        "include": ["reasoning.encrypted_content"], "text": {"format": {"type": "text"}}, "tools": TOOLS,
    }  # fmt: skip
    with scripted(engine(), tmp_path) as proxy:
        first = answer(proxy, session, input="Hello", **fields)
        second = answer(proxy, session, input="Go on", previous_response_id=first["id"], **fields)
    with scripted(engine(), tmp_path) as proxy:
        for told in (first, second):
            assert proxy.http.get(f"/sessions/{session}/v1/responses/{told['id']}").json() == told
    assert (second["metadata"], second["user"], second["temperature"]) == ({"a": "b"}, "u", 0.5)
    assert second["instructions"] == "Be quick."
    assert second["previous_response_id"] == first["id"]


def test_what_was_not_included_can_be_asked_for_later(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(engine())
    told = answer(proxy, session, input="Hello", tools=TOOLS)
    assert "encrypted_content" not in told["output"][0]
    client = proxy.openai(session)
    again = client.responses.retrieve(told["id"], include=["reasoning.encrypted_content"])
    assert again.output[0].type == "reasoning"
    assert again.output[0].encrypted_content


def test_answer_that_is_not_stored_is_on_tape_and_not_given_again(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(played := engine())
    told = answer(proxy, session, input="Hello", store=False)
    assert refused(proxy, "GET", f"/v1/responses/{told['id']}") == NOT_FOUND
    assert refused(proxy, "DELETE", f"/v1/responses/{told['id']}") == NOT_FOUND
    (turn,) = check_all(proxy.tape, session, played.calls)
    assert told["id"] == f"resp_{turn.id}"


def test_deleted_answer_stays_on_tape_and_is_not_given_again(tmp_path: Path, session: str) -> None:
    played = engine()
    with scripted(played, tmp_path) as proxy:
        told = answer(proxy, session, input="Hello")
        deleted = proxy.http.delete(f"/v1/responses/{told['id']}")
        assert deleted.json() == {"id": told["id"], "object": "response", "deleted": True}
    with scripted(engine(), tmp_path) as proxy:
        for path in ("", "/input_items"):
            assert refused(proxy, "GET", f"/v1/responses/{told['id']}{path}") == NOT_FOUND
        assert refused(proxy, "DELETE", f"/v1/responses/{told['id']}") == NOT_FOUND
        assert ask(proxy, session, input="Go on", previous_response_id=told["id"]).status_code == 404
        assert len(proxy.tape.samples(session)) == 1
        # The session goes as any other.
        proxy.http.post(f"/sessions/{session}/finish")
        assert proxy.http.delete(f"/sessions/{session}").status_code == 204


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_unknown_answers_and_those_of_other_sessions_and_protocols_are_not_found(
    start_proxy: StartProxy, session: str, method: str
) -> None:
    proxy = start_proxy(engine())
    told = answer(proxy, session, input="Hello")
    chat = proxy.chat(session, [{"role": "user", "content": "Hello there"}]).headers["x-turn-id"]
    turn_id = told["id"].removeprefix("resp_")
    for path in ("/v1/responses/resp_x", f"/v1/responses/{turn_id}", f"/v1/responses/resp_{chat}",
                 f"/sessions/other/v1/responses/{told['id']}"):  # fmt: skip
        assert refused(proxy, method, path) == NOT_FOUND


def test_cancelling_is_refused_while_it_runs_and_afterwards(start_proxy: StartProxy, session: str) -> None:
    words = qwen3_tokenizer().encode_like_model("word " * 200)
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: words, delay=0.02))
    body = {"model": proxy.model, "input": "Hello", "stream": True, "max_output_tokens": 50}
    with proxy.http.stream("POST", f"/sessions/{session}/v1/responses", json=body) as response:
        running = f"resp_{response.headers['x-turn-id']}"
        answered = proxy.http.post(f"/v1/responses/{running}/cancel")
        assert answered.status_code == 400
        assert "background" in answered.json()["error"]["message"]
    until(lambda: bool(proxy.tape.turns(session)))
    assert proxy.http.post(f"/v1/responses/{running}/cancel").status_code == 400
    assert refused(proxy, "POST", "/v1/responses/resp_x/cancel") == NOT_FOUND
    assert proxy.http.get(f"/v1/responses/{running}").json()["status"] == "cancelled"


def test_input_is_listed_in_pages(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(engine())
    first = answer(proxy, session, input="Hello", tools=TOOLS, instructions="Be quick.")
    result = {"type": "function_call_output", "call_id": first["output"][-1]["call_id"], "output": "found"}
    second = answer(proxy, session, input=[result], previous_response_id=first["id"], tools=TOOLS)
    client = proxy.openai(session)
    listed = list(client.responses.input_items.list(second["id"], order="asc", limit=2))
    for item in listed:
        _ITEM.validate_python(item.model_dump(exclude_unset=True), strict=True)
    assert [item.type for item in listed] == [
        "message",
        "reasoning",
        "message",
        "function_call",
        "function_call_output",
    ]
    assert listed[-1].model_dump()["output"] == "found"
    newest = client.responses.input_items.list(second["id"], limit=1)
    assert (newest.data[0].id, newest.has_more) == (listed[-1].id, True)
    assert len({item.id for item in listed}) == 5


def test_client_that_went_away_finds_what_was_sampled(start_proxy: StartProxy, session: str) -> None:
    words = qwen3_tokenizer().encode_like_model("word " * 500)
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: words, delay=0.02))
    body = {"model": proxy.model, "input": "Hello", "stream": True}
    with proxy.http.stream("POST", f"/sessions/{session}/v1/responses", json=body) as response:
        name = f"resp_{response.headers['x-turn-id']}"
        time.sleep(0.2)
    until(lambda: bool(proxy.tape.turns(session)))
    again = proxy.http.get(f"/v1/responses/{name}").json()
    assert (again["status"], again["output"][0]["status"]) == ("cancelled", "incomplete")
    assert again["output"][0]["content"][0]["text"].startswith("word word")
