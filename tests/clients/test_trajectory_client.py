"""The trainer's client, sync and async, against a running server."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, scripted
from tickertape.clients import AsyncTrajectoryClient, TrajectoryError

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


def test_sessions_page_by_themselves(proxy: Proxy) -> None:
    sessions = list(proxy.tape.sessions(page_size=2))
    assert [session.id for session in sessions] == [f"s{number}" for number in range(5)]
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
        assert [session async for session in tape.sessions(page_size=2)] == list(proxy.tape.sessions())
        assert await tape.get_session("s1") == proxy.tape.get_session("s1")
        assert [turn.id for turn in await tape.turns("s1")] == [turn.id for turn in proxy.tape.turns("s1")]
        (sample,) = await tape.samples("s1")
        assert np.array_equal(sample.token_ids, proxy.tape.samples("s1")[0].token_ids)
        assert tape.agent_base_url("s1") == proxy.tape.agent_base_url("s1") == f"{proxy.url}/sessions/s1/v1"
        with pytest.raises(TrajectoryError):
            await tape.turns("nobody")
