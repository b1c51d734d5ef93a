"""Items that a client sends by their ids alone, or leaves out: the tape has them, and the session stays one sample."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.server.conftest import StartProxy
from tests.server.dialects.responses.following import answer, ask
from tests.server.dialects.responses.test_conversations import TOOLS, agent_engine, results
from tests.server.invariants import check_all

N_TURNS = 6
Sent = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


def by_reference(output: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As the Vercel AI SDK sends them."""
    return [{"type": "item_reference", "id": item["id"]} for item in output]


def by_id(output: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As the protocol allows, too: without a type."""
    return [{"id": item["id"]} for item in output]


def calls_alone(output: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [item for item in output if item["type"].endswith("call")]


def thoughts_by_reference(output: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"id": item["id"]} if item["type"] == "reasoning" else item for item in output]


@pytest.mark.parametrize("sent", [by_reference, by_id, calls_alone, thoughts_by_reference])
def test_what_is_left_out_is_found_by_the_ids(start_proxy: StartProxy, session: str, sent: Sent) -> None:
    proxy = start_proxy(engine := agent_engine())
    history: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]
    for _ in range(N_TURNS):
        output = answer(proxy, session, input=history, instructions="Be quick.", tools=TOOLS)["output"]
        history += [*sent(output), *results(output)]
    turns = check_all(proxy.tape, session, engine.calls)
    assert [turn.fork_reason for turn in turns] == [None] * N_TURNS
    assert len(proxy.tape.samples(session)) == 1


def test_a_reference_leads_to_its_session(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(agent_engine())
    hello = {"role": "user", "content": "Hello"}
    output = answer(proxy, session, input=[hello], tools=TOOLS)["output"]
    asked = [hello, *by_reference(output), *results(output)]
    assert ask(proxy, None, input=asked, tools=TOOLS).headers["X-Session-Id"] == session
    assert len(proxy.tape.samples(session)) == 1


@pytest.mark.parametrize("why", ["unknown", "malformed", "other session", "store=false", "deleted"])
def test_a_reference_to_what_is_not_there_is_refused_by_its_place(
    start_proxy: StartProxy, session: str, why: str
) -> None:
    proxy = start_proxy(agent_engine())
    hello = {"role": "user", "content": "Hello"}
    response = answer(proxy, session, input=[hello], tools=TOOLS, store=why != "store=false")
    named = {"unknown": f"rs_{'0' * 32}_0", "malformed": "rs_1"}.get(why, response["output"][0]["id"])
    if why == "deleted":
        assert proxy.http.delete(f"/sessions/{session}/v1/responses/{response['id']}").status_code == 200
    other = "other" if why == "other session" else session
    refused = ask(proxy, other, input=[hello, {"type": "item_reference", "id": named}], tools=TOOLS)
    assert refused.status_code == 404
    assert refused.json()["error"]["param"] == "input[1]"


def test_what_the_client_has_changed_is_not_taken_from_the_tape(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(agent_engine())
    hello = {"role": "user", "content": "Hello"}
    output = answer(proxy, session, input=[hello], tools=TOOLS)["output"]
    changed = [{**item, "arguments": '{"n": 7}'} if item["type"] == "function_call" else item for item in output]
    answer(proxy, session, input=[hello, *calls_alone(changed), *results(output)], tools=TOOLS)
    assert [turn.fork_reason for turn in proxy.tape.turns(session)] == [None, "made_up_answer"]
