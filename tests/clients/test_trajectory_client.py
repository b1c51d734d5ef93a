"""The trainer's client, sync and async, against a running server."""

import asyncio
import inspect
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace

import numpy as np
import pytest

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, scripted
from tickertape.clients import AsyncTrajectoryClient, TrajectoryClient, TrajectoryError

END = 151645


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    engine = ScriptedEngine(lambda _ids, _sampling: [9707, END], version="step-3")
    with scripted(engine, tmp_path_factory.mktemp("tape")) as proxy:
        for number in range(5):
            messages = [{"role": "user", "content": "Hello"}]
            answer = proxy.chat(f"s{number}", messages).json()["choices"][0]["message"]
            proxy.chat(f"s{number}", [*messages, answer, {"role": "user", "content": "More"}])
        yield proxy


@pytest.fixture
def session() -> str:
    """A session id that no other test uses."""
    return uuid.uuid4().hex


def test_sessions_page_by_themselves(proxy: Proxy) -> None:
    sessions = list(proxy.tape.sessions(page_size=2))
    assert [each.id for each in sessions] == [f"s{number}" for number in range(5)]
    assert sessions[0] == replace(proxy.tape.get_session("s0"), statistics=None)
    assert (sessions[0].turns, sessions[0].outcomes, sessions[0].completion_tokens) == (2, {"stop": 2}, 4)


def test_turns_and_samples_are_arrays(proxy: Proxy) -> None:
    first, second = proxy.tape.turns("s0")
    assert (first.completion.dtype, first.logprobs.dtype) == (np.int32, np.float32)
    assert second.parent_id == first.id
    assert first.versions == [("step-3", 2)]
    assert [turn.id for turn in proxy.tape.turns("s0", after=0)] == [second.id]
    assert [turn.id for turn in proxy.tape.turns("s0", limit=1)] == [first.id]
    (sample,) = proxy.tape.samples("s0")
    assert sample.turn_ids == [first.id, second.id]
    assert sample.loss_mask.sum() == 4
    assert np.isnan(sample.logprobs[sample.loss_mask == 0]).all()
    assert np.array_equal(sample.token_ids[sample.loss_mask == 1], [9707, END, 9707, END])


def test_unknown_session_is_an_error_with_its_code(proxy: Proxy) -> None:
    with pytest.raises(TrajectoryError, match="nobody") as caught:
        proxy.tape.samples("nobody")
    assert (caught.value.status, caught.value.code) == (404, "session_not_found")


async def test_async_client_says_the_same(proxy: Proxy) -> None:
    async with AsyncTrajectoryClient(proxy.url) as tape:
        assert [each async for each in tape.sessions(page_size=2)] == list(proxy.tape.sessions())
        assert await tape.get_session("s1") == proxy.tape.get_session("s1")
        assert [turn.id for turn in await tape.turns("s1")] == [turn.id for turn in proxy.tape.turns("s1")]
        (sample,) = await tape.samples("s1")
        assert np.array_equal(sample.token_ids, proxy.tape.samples("s1")[0].token_ids)
        assert tape.agent_base_url("s1") == proxy.tape.agent_base_url("s1") == f"{proxy.url}/sessions/s1/v1"
        with pytest.raises(TrajectoryError):
            await tape.turns("nobody")


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    def methods(client: type) -> dict[str, list[str]]:
        found = inspect.getmembers(client, inspect.isfunction)
        return {name: list(inspect.signature(each).parameters) for name, each in found if not name.startswith("_")}

    assert methods(AsyncTrajectoryClient) == methods(TrajectoryClient)


async def test_async_client_does_all_that_the_other_one_does(proxy: Proxy, session: str) -> None:
    async with AsyncTrajectoryClient(proxy.url) as tape:
        async with tape.session(session, group_id=session) as rollout:
            messages = [{"role": "user", "content": "Hello"}]
            await asyncio.to_thread(proxy.chat, rollout.id, messages)
            (turn,) = await rollout.turns()
            await rollout.reward(1.0, turns={turn.id: 0.5})
            assert len(await rollout.samples()) == 1
        with pytest.raises(ZeroDivisionError):
            async with tape.session(group_id=session) as failed:
                raise ZeroDivisionError
        assert [each.state async for each in tape.sessions(group_id=session)] == ["finished", "discarded"]
        assert (await tape.get_session(failed.id)).state == "discarded"
        assert (await tape.update_session(session, metadata={"a": 1})).metadata == {"a": 1}
        assert (await tape.rewards(session)).turns == {turn.id: 0.5}
        assert (await tape.reward(session, 2.0)).reward == 2.0
        (sample,) = [each async for each in tape.finished_samples(group_id=session)]
        assert (sample.reward, sample.turn_rewards, sample.metadata) == (2.0, [0.5], {"a": 1})
        (page,) = [each async for each in tape.sample_pages(group_id=session)]
        assert (page.samples[0].id, page.more) == (sample.id, False)
        assert (await tape.summary(group_id=session)).samples == 1
        async with aclosing(tape.leases("a", group_id=session)) as leases:
            lease = await anext(leases)
        assert lease.id is not None
        assert (await tape.lease_state(lease.id)).released == 1
        taken = [[s.id for s in lease.samples] async for lease in tape.leases("a", group_id=session)]
        assert taken == [[sample.id]]
        assert (await tape.get_session(session)).acked_by == "a"
        assert (await tape.retain(max_tokens=0, dry_run=True))["report"]["dropped"]["acked"] >= 1
        await tape.delete(session)
        with pytest.raises(TrajectoryError, match="no session"):
            await tape.turns(session)


def test_leases_wait_for_samples_that_are_to_come(proxy: Proxy, session: str) -> None:
    def finish_later() -> None:
        time.sleep(1)
        proxy.chat(session, [{"role": "user", "content": "Hello"}])
        proxy.tape.update_session(session, group_id=session)
        proxy.tape.finish(session)

    agent = threading.Thread(target=finish_later)
    agent.start()
    with TrajectoryClient(proxy.url) as tape:
        lease = next(tape.leases("patient", wait=30, group_id=session))
    agent.join()
    assert [sample.session_id for sample in lease.samples] == [session]
