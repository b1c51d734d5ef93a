"""Token arrays: stored with their turn, aligned with its tokens, handed out whole, gone with the session.

The engine is a fake whose arrays say which token each row is of, so that no row can be in the wrong place unseen.
"""

import asyncio
import sqlite3
import uuid
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, StartProxy, scripted, until
from tests.server.policy.test_policy import WORDS, admin, encode, goes_on
from tests.server.store.test_store import turn
from tickertape.clients import AsyncTrajectoryClient, TrajectoryError
from tickertape.clients.engines.engine import Chunk, EngineInfo, Feature, Sampling, TokenIds
from tickertape.clients.engines.errors import EngineGone, EngineNonsense
from tickertape.server.routes import arrays as arrays_route
from tickertape.server.serving.assembly import make_parts
from tickertape.server.settings import Settings, SettingsError
from tickertape.server.store import arrays, schema
from tickertape.server.store.store import Store, StoreError
from tickertape.server.trajectories.turn import Turn
from tickertape.server.turns.completion import Completion

END = 151645
HELLO = [{"role": "user", "content": "Hello"}]
BOTH = ("routed_experts", "sampling_mask")


class FakeExpertsEngine(ScriptedEngine):
    """A fake mixture of experts: the row of the token t at position p is ``[[p, t]]``, or as ``rows`` spoils it."""

    features = ScriptedEngine.features | {Feature.ROUTED_EXPERTS, Feature.SAMPLING_MASK}
    rows = staticmethod(lambda array: array)

    async def generate(
        self, prompt_ids: TokenIds, sampling: Sampling, *, request_id: str, chunk_tokens: int = 1
    ) -> AsyncGenerator[Chunk, None]:
        sampled: list[int] = []
        async with aclosing(super().generate(prompt_ids, sampling, request_id=request_id)) as chunks:
            async for chunk in chunks:
                sampled += chunk.token_ids
                if chunk.finish_reason is None:
                    yield chunk
                    continue
                given = told([*prompt_ids.tolist(), *sampled], sampled)
                given["routed_experts"] = self.rows(given["routed_experts"])
                yield replace(chunk, token_arrays={name: given[name] for name in sampling.token_arrays})


def told(stream: list[int], sampled: list[int]) -> dict[str, npt.NDArray[Any]]:
    experts = np.array([[[place, token]] for place, token in enumerate(stream[:-1])], np.int32)
    mask = np.full((len(sampled), max((token % 5 + 1 for token in sampled), default=1)), -1, np.int32)
    for row, token in zip(mask, sampled, strict=True):
        row[: token % 5 + 1] = token
    return {"routed_experts": experts, "sampling_mask": mask}


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    engine = FakeExpertsEngine(lambda _ids, _sampling: [9707, 13, END])
    with scripted(engine, tmp_path_factory.mktemp("tape"), token_arrays=BOTH) as proxy:
        yield proxy


def play(proxy: Proxy, session: str, turns: int = 3) -> None:
    messages: list[dict[str, Any]] = [*HELLO]
    for number in range(turns):
        answer = proxy.chat(session, messages)
        assert answer.status_code == 200, answer.text
        messages += [answer.json()["choices"][0]["message"], {"role": "user", "content": f"More, {number}"}]


# Which tokens the rows are of.


def test_arrays_of_a_samples_turns_one_behind_the_other_are_of_all_its_tokens_but_the_last(
    proxy: Proxy, session: str
) -> None:
    play(proxy, session)
    (sample,) = proxy.tape.samples(session)
    rows = np.concatenate([proxy.tape.array(session, turn_id, "routed_experts") for turn_id in sample.turn_ids])
    assert rows.dtype == np.int32
    assert np.array_equal(rows[:, 0, 0], np.arange(len(sample.token_ids) - 1))
    assert np.array_equal(rows[:, 0, 1], sample.token_ids[:-1])


def test_branches_line_up_too(proxy: Proxy, session: str) -> None:
    first = proxy.chat(session, HELLO).json()["choices"][0]["message"]
    for text in ("left", "right"):
        proxy.chat(session, [*HELLO, first, {"role": "user", "content": text}])
    samples = proxy.tape.samples(session)
    assert len(samples) == 2
    for sample in samples:
        rows = [proxy.tape.array(session, turn_id, "routed_experts") for turn_id in sample.turn_ids]
        assert np.array_equal(np.concatenate(rows)[:, 0, 1], sample.token_ids[:-1])


def test_sampling_mask_has_a_row_for_each_sampled_token(proxy: Proxy, session: str) -> None:
    play(proxy, session, 2)
    for each in proxy.tape.turns(session):
        mask = proxy.tape.array(session, each.id, "sampling_mask")
        assert len(mask) == len(each.completion) == 3
        assert np.array_equal(mask[:, 0], each.completion)


def test_turn_that_went_on_after_a_pause_has_each_tokens_row_once(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(engine := FakeExpertsEngine(goes_on(WORDS), delay=0.03), token_arrays=BOTH)
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(proxy.chat, session, HELLO)
        until(lambda: any(len(call.token_ids) >= 3 for call in engine.calls))
        admin(proxy, "/pause", mode="abort")
        admin(proxy, "/resume")
        assert answer.result(20).status_code == 200
    assert len(engine.calls) == 2, "it took two requests"
    (sample,) = proxy.tape.samples(session)
    assert sample.token_ids[sample.loss_mask == 1].tolist() == encode(WORDS)
    rows = proxy.tape.array(session, sample.turn_ids[0], "routed_experts")
    assert np.array_equal(rows[:, 0, 1], sample.token_ids[:-1])
    before = len(engine.calls[1].prompt_ids) - len(engine.calls[0].prompt_ids)
    mask = proxy.tape.array(session, sample.turn_ids[0], "sampling_mask")
    assert (mask[:before] == -1).all(), "the request that was left told nothing"
    assert mask[before:, 0].tolist() == encode(WORDS)[before:]


def generation(*requests: tuple[list[int], dict[str, Any], str | None]) -> dict[str, Any]:
    """The arrays of a turn whose requests sampled these tokens and told these arrays, and how each ended."""
    taken = Completion(n_prompt=3)
    for token_ids, given, finish_reason in requests:
        taken.begin_request()
        taken.take(Chunk(token_ids, [-1.0] * len(token_ids)))
        taken.take(Chunk([], [], finish_reason=finish_reason, token_arrays=given))
    made = turn(0, prompt_delta=np.array([7, 7], np.int32))
    taken.record_on(made)
    return made.token_arrays


def test_what_an_aborted_request_told_stands_and_the_next_adds_to_it() -> None:
    first = {"routed_experts": np.full((4, 1), 1), "sampling_mask": np.full((2, 1), 1)}
    second = {"routed_experts": np.full((6, 1), 2), "sampling_mask": np.full((2, 3), 2)}
    kept = generation(([5, 6], first, None), ([8, 9], second, "stop"))
    # Of the parent's last token, two of the delta, and the completion but its last token.
    assert kept["routed_experts"][:, 0].tolist() == [1, 1, 1, 1, 2, 2]
    assert kept["sampling_mask"].tolist() == [[1, -1, -1], [1, -1, -1], [2, 2, 2], [2, 2, 2]]


def test_array_that_an_aborted_request_did_not_tell_to_the_end_is_left_to_the_next() -> None:
    cut_off = {"routed_experts": np.full((1, 1), 1), "sampling_mask": np.full((1, 1), 1)}
    second = {"routed_experts": np.full((6, 1), 2), "sampling_mask": np.full((2, 1), 2)}
    kept = generation(([5, 6], cut_off, None), ([8, 9], second, "stop"))
    assert set(kept["routed_experts"][:, 0].tolist()) == {2}
    assert kept["sampling_mask"][:, 0].tolist() == [-1, -1, 2, 2]


def test_array_that_ends_before_the_completion_does_is_not_kept() -> None:
    first = {"routed_experts": np.full((4, 1), 1), "sampling_mask": np.full((2, 1), 1)}
    assert generation(([5, 6], first, None), ([8, 9], {}, "stop")) == {}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"routed_experts": np.zeros((4, 1))}, "routed_experts of 4 tokens where there are 5"),
        ({"routed_experts": np.zeros((6, 1))}, "routed_experts of 6 tokens where there are 5"),
        ({"sampling_mask": np.zeros((2, 1))}, "sampling_mask of 2 tokens where there are 3"),
        ({"moods": np.zeros((3, 1))}, "'moods', which nobody asks for"),
    ],
)
def test_array_with_other_rows_than_tokens_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(EngineNonsense, match=said):
        generation(([5, 6, 8], given, "stop"))


def test_turn_whose_array_has_other_rows_than_tokens_is_an_engine_error_with_its_tokens(
    start_proxy: StartProxy, session: str
) -> None:
    engine = FakeExpertsEngine(lambda _ids, _sampling: [9707, END])
    engine.rows = lambda array: array[:-1]  # type: ignore[method-assign]
    proxy = start_proxy(engine, token_arrays=BOTH)
    assert proxy.chat(session, HELLO).status_code == 502
    (failed,) = proxy.tape.turns(session)
    assert (failed.outcome, failed.completion.tolist(), failed.arrays) == ("engine_error", [9707, END], {})
    assert "the engine gave routed_experts of" in str(failed.error)


# On tape and out of it.


def test_turn_json_names_arrays_and_does_not_hold_them(proxy: Proxy, session: str) -> None:
    play(proxy, session, 1)
    (shown,) = proxy.http.get(f"/sessions/{session}/turns").json()["turns"]
    n_read = len(shown["prompt_delta"]) + len(shown["completion"]) - 1
    assert shown["arrays"] == {
        "routed_experts": {"dtype": "<i4", "shape": [n_read, 1, 2]},
        "sampling_mask": {"dtype": "<i4", "shape": [3, 4]},
    }
    assert "token_arrays" not in shown
    assert shown["sampling"]["token_arrays"] == list(BOTH)
    (read,) = proxy.tape.turns(session)
    assert read.arrays == shown["arrays"]


@pytest.mark.parametrize("piece", [1, 64, 2**20])
def test_array_is_one_npy_file_however_it_is_cut(
    proxy: Proxy, session: str, piece: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    play(proxy, session, 1)
    monkeypatch.setattr(arrays_route, "PIECE", piece)
    (shown,) = proxy.tape.turns(session)
    path = f"/sessions/{session}/turns/{shown.id}/arrays/routed_experts"
    answer = proxy.http.get(path)
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    (tmp_path / "a.npy").write_bytes(answer.content)
    assert np.array_equal(np.load(tmp_path / "a.npy"), proxy.tape.array(session, shown.id, "routed_experts"))


def test_async_client_gets_the_same(proxy: Proxy, session: str) -> None:
    play(proxy, session, 1)
    (shown,) = proxy.tape.turns(session)

    async def get() -> npt.NDArray[Any]:
        async with AsyncTrajectoryClient(proxy.url) as tape:
            return await tape.array(session, shown.id, "sampling_mask")

    assert np.array_equal(asyncio.run(get()), proxy.tape.array(session, shown.id, "sampling_mask"))


def test_array_that_is_not_there_is_an_error_that_says_what_is(proxy: Proxy, session: str) -> None:
    play(proxy, session, 1)
    (shown,) = proxy.tape.turns(session)
    for place, said in [
        ((session, shown.id, "moods"), "there is: routed_experts, sampling_mask"),
        ((session, "nobody", "routed_experts"), "no such turn"),
        (("nowhere", shown.id, "routed_experts"), "no such turn"),
    ]:
        with pytest.raises(TrajectoryError, match=said) as caught:
            proxy.tape.array(*place)
        assert (caught.value.status, caught.value.code) == (404, "array_not_found")


def n_rows(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("SELECT COUNT(*) FROM token_arrays").fetchone()[0])
    finally:
        connection.close()


def test_arrays_count_in_a_sessions_bytes_and_go_with_it(tmp_path: Path) -> None:
    engine = FakeExpertsEngine(lambda _ids, _sampling: [9707, END])
    with scripted(engine, tmp_path, token_arrays=BOTH) as proxy:
        for name in ("deleted", "retained", "kept"):
            play(proxy, name, 2)
            proxy.tape.finish(name)
        turns = proxy.tape.turns("deleted")
        n_bytes = sum(proxy.tape.array("deleted", t.id, name).nbytes for t in turns for name in BOTH)
        connection = sqlite3.connect(tmp_path / "tape.db")
        total = "SUM(LENGTH(prompt_delta) + LENGTH(completion) + LENGTH(logprobs) + LENGTH(rest))"
        (plain,) = connection.execute(f"SELECT {total} FROM turns WHERE session_id = 'deleted'").fetchone()
        (stored,) = connection.execute("SELECT stored_bytes FROM sessions WHERE id = 'deleted'").fetchone()
        connection.close()
        assert stored == plain + n_bytes > plain
        assert n_rows(tmp_path / "tape.db") == 3 * 2 * 2
        proxy.tape.delete("deleted")
        assert n_rows(tmp_path / "tape.db") == 2 * 2 * 2
        lease = proxy.tape.lease("a", limit=1)
        assert lease.id
        proxy.tape.ack(lease.id)
        assert proxy.tape.retain(max_bytes=stored * 3 // 2)["report"]["dropped"]["acked"] == 1
        assert n_rows(tmp_path / "tape.db") == 1 * 2 * 2


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i4", "f4", "?"])
def test_array_comes_back_as_it_went_in(tmp_path: Path, dtype: str) -> None:
    given = np.arange(24).reshape(4, 3, 2).astype(dtype).transpose(1, 0, 2)  # not in C order
    (read,) = stored(tmp_path, turn(0, token_arrays={"a": given}))
    assert np.array_equal(read, given)
    assert (read.shape, read.dtype.kind, read.dtype.itemsize) == (given.shape, given.dtype.kind, given.dtype.itemsize)


def test_empty_array_is_an_array(tmp_path: Path) -> None:
    (read,) = stored(tmp_path, turn(0, token_arrays={"a": np.zeros((0, 2), np.int16)}))
    assert (read.shape, read.dtype) == ((0, 2), np.int16)


def stored(tmp_path: Path, given: Turn) -> list[npt.NDArray[Any]]:
    """What is on tape of a turn's arrays."""

    async def write() -> list[npt.NDArray[Any]]:
        store = Store(tmp_path / "tape.db")
        await store.commit(given)
        found = (await store.read(arrays.described, given.session_id)).get(given.id, {})
        pieces = [
            (facts, await store.read(arrays.piece, given.id, name, 0, facts.n_bytes)) for name, facts in found.items()
        ]
        store.close()
        return [np.frombuffer(data, facts.dtype).reshape(facts.shape) for facts, data in pieces]

    return asyncio.run(write())


def test_turn_and_its_arrays_are_on_tape_together_or_not_at_all(tmp_path: Path) -> None:
    async def write() -> None:
        store = Store(tmp_path / "tape.db")
        await store.commit(turn(0, "other", id="taken", token_arrays={"a": np.zeros(2)}))
        await store.write(lambda c: c.execute(schema.token_arrays.update().values(turn_id="s-0")))
        with pytest.raises(StoreError, match="token_arrays"):  # of this turn and name there is a row already
            await store.commit(turn(0, token_arrays={"a": np.zeros(2)}))
        assert await store.turns("s") is None
        with pytest.raises(StoreError, match="object, which is not kept"):
            await store.commit(turn(1, token_arrays={"a": np.array([None])}))
        assert await store.turns("s") is None
        store.close()

    asyncio.run(write())


def test_trees_and_turns_are_read_without_arrays(tmp_path: Path) -> None:
    async def read() -> None:
        store = Store(tmp_path / "tape.db")
        await store.commit(turn(0, token_arrays={"a": np.zeros(2)}))
        (found,) = await store.turns("s") or []
        assert found.token_arrays == {}
        store.close()

    asyncio.run(read())


# Asking for them.


def test_arrays_that_engines_do_not_report_are_refused_at_start(tmp_path: Path) -> None:
    engine = ScriptedEngine(lambda _ids, _sampling: [END])
    with (
        pytest.raises(SettingsError, match="--token-array: routed_experts cannot be kept"),
        scripted(engine, tmp_path, token_arrays=("routed_experts",)),
    ):
        raise AssertionError("it should not have started")


class LateEngine(ScriptedEngine):
    """A fake engine that is away at first, and reports no arrays when it comes."""

    away = True

    async def start(self) -> EngineInfo:
        if self.away:
            raise EngineGone("it is not there yet")
        return await super().start()


def test_turn_is_refused_while_an_engine_serves_that_reports_no_arrays(start_proxy: StartProxy, session: str) -> None:
    late = LateEngine(lambda _ids, _sampling: [END])
    proxy = start_proxy({"moe": FakeExpertsEngine(lambda _ids, _sampling: [END]), "late": late}, token_arrays=BOTH)
    assert proxy.chat(session, HELLO).status_code == 200
    late.away = False
    until(lambda: proxy.chat(session, [{"role": "user", "content": uuid.uuid4().hex}]).status_code == 502)
    refused = proxy.tape.turns(session)[-1]
    assert refused.outcome == "rejected"
    assert "not every engine that serves reports it" in str(refused.error)
    assert not late.calls


def test_array_that_nobody_knows_is_refused_before_anything_runs() -> None:
    with pytest.raises(SettingsError, match="--token-array moods: there are routed_experts, sampling_mask"):
        make_parts(Settings(token_arrays=("moods",)), say=print)


def test_no_array_is_asked_for_unless_it_is_to_be_kept(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(engine := FakeExpertsEngine(lambda _ids, _sampling: [9707, END]))
    proxy.chat(session, HELLO)
    assert engine.calls[0].sampling.token_arrays == ()
    assert proxy.tape.turns(session)[0].arrays == {}
