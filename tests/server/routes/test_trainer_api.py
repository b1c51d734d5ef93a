"""What trainers ask of sessions and samples, over HTTP: states, filters, rewards, formats."""

import io
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, scripted
from tickertape.clients import Sample, TrajectoryError
from tickertape.clients.samples import samples_of
from tickertape.server.trajectories.columns import SCHEMA

END = 151645


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def proxy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    engine = ScriptedEngine(lambda _ids, _sampling: [9707, END], version="step-3")
    with ExitStack() as stack:
        place = {}
        if request.param == "postgresql":
            place["db"] = stack.enter_context(request.getfixturevalue("postgres_server").database())
        yield stack.enter_context(scripted(engine, tmp_path_factory.mktemp("tape"), **place))


def play(proxy: Proxy, session_id: str, turns: int = 2) -> None:
    """An agent that asks again and again."""
    messages = [{"role": "user", "content": "Hello"}]
    for _ in range(turns):
        answer = proxy.chat(session_id, messages)
        assert answer.status_code == 200, answer.text
        messages += [answer.json()["choices"][0]["message"], {"role": "user", "content": "More"}]


def refused(answer: httpx.Response) -> tuple[int, str | None, str]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["message"]


# States.


def test_session_is_made_with_what_the_trainer_knows_of_it(proxy: Proxy, session: str) -> None:
    made = proxy.tape.create_session(
        session, task_id="t", group_id="g", policy_version="step-3", metadata={"seed": 7, "tags": ["a"]}
    )
    assert (made.id, made.state, made.turns) == (session, "open", 0)
    play(proxy, session)
    found = proxy.tape.get_session(session)
    assert (found.task_id, found.group_id, found.policy_version) == ("t", "g", "step-3")
    assert (found.metadata, found.turns, found.completion_tokens) == ({"seed": 7, "tags": ["a"]}, 2, 4)
    assert found.updated_at > found.created_at
    assert proxy.tape.update_session(session, group_id=None, reward=0.5).group_id is None
    assert proxy.tape.get_session(session).task_id == "t", "what is not sent stays"


def test_session_id_is_taken_once_and_made_up_where_none_is_given(proxy: Proxy, session: str) -> None:
    proxy.tape.create_session(session)
    with pytest.raises(TrajectoryError, match="already") as caught:
        proxy.tape.create_session(session)
    assert (caught.value.status, caught.value.code) == (409, "session_exists")
    first, second = proxy.tape.create_session(), proxy.tape.create_session()
    assert first.id != second.id
    with pytest.raises(TrajectoryError, match="no session id"):
        proxy.tape.create_session("no spaces")


def test_finished_session_refuses_its_agent_and_keeps_its_samples(proxy: Proxy, session: str) -> None:
    play(proxy, session)
    finished = proxy.tape.finish(session)
    assert finished.state == "finished"
    assert finished.statistics is not None
    assert (finished.statistics["samples"], finished.statistics["sampled_tokens"]) == (1, 4)
    assert finished.statistics["freshest"] == 3
    retry = proxy.chat(session, [{"role": "user", "content": "Hello"}])
    assert retry.headers["X-Tickertape-Replayed"] == "true", "it was answered before"
    answer = proxy.chat(session, [{"role": "user", "content": "Are you there?"}])
    assert refused(answer)[:2] == (409, "session_closed")
    assert proxy.tape.finish(session).finished_at == finished.finished_at
    after = proxy.tape.get_session(session)
    assert (after.outcomes, after.late_turns) == ({"stop": 2, "replayed": 1, "rejected": 1}, 2)
    assert len(proxy.tape.samples(session)[0].turn_ids) == 2


def test_turn_that_ends_after_the_finish_is_recorded_and_in_no_sample(tmp_path_factory: pytest.TempPathFactory) -> None:
    engine = ScriptedEngine(lambda _ids, _sampling: [9707] * 5 + [END], delay=0.1)
    with scripted(engine, tmp_path_factory.mktemp("late")) as slow:
        slow.tape.create_session("s")
        agent = threading.Thread(target=lambda: slow.chat("s", [{"role": "user", "content": "Hello"}]))
        agent.start()
        while not engine.calls:
            pass
        slow.tape.finish("s")
        agent.join()
        found = slow.tape.get_session("s")
        assert (found.turns, found.late_turns, found.statistics and found.statistics["samples"]) == (1, 1, 0)
        assert len(slow.tape.turns("s")[0].completion) == 6
        assert slow.tape.samples("s") == []


def test_discarded_session_stays_on_tape_and_out_of_the_samples(proxy: Proxy, session: str) -> None:
    play(proxy, session)
    assert proxy.tape.discard(session).state == "discarded"
    assert len(proxy.tape.turns(session)) == 2
    assert session not in {sample.session_id for sample in proxy.tape.finished_samples()}
    with pytest.raises(TrajectoryError, match="discarded") as caught:
        proxy.tape.finish(session)
    assert caught.value.status == 409


def test_deleted_session_is_gone_and_its_id_is_free(proxy: Proxy, session: str) -> None:
    play(proxy, session)
    with pytest.raises(TrajectoryError, match="is open"):
        proxy.tape.delete(session)
    proxy.tape.reward(session, 1.0, turns={proxy.tape.turns(session)[0].id: 1.0})
    proxy.tape.finish(session)
    proxy.tape.delete(session)
    with pytest.raises(TrajectoryError) as caught:
        proxy.tape.get_session(session)
    assert caught.value.code == "session_not_found"
    play(proxy, session, turns=1)
    assert [turn.parent_id for turn in proxy.tape.turns(session)] == [None]


@pytest.mark.parametrize("call", ["finish", "discard", "delete", "samples", "turns", "rewards", "get_session"])
def test_unknown_session_is_named(proxy: Proxy, call: str) -> None:
    with pytest.raises(TrajectoryError, match="no session 'nobody'") as caught:
        getattr(proxy.tape, call)("nobody")
    assert (caught.value.status, caught.value.code) == (404, "session_not_found")


def test_agent_without_a_session_goes_on_in_a_new_one_when_its_own_was_finished(proxy: Proxy) -> None:
    messages = [{"role": "user", "content": "Do you know me?"}]
    first = proxy.chat(None, messages)
    messages += [first.json()["choices"][0]["message"], {"role": "user", "content": "And now?"}]
    proxy.tape.finish(first.headers["X-Session-Id"])
    second = proxy.chat(None, messages)
    assert second.status_code == 200
    assert second.headers["X-Session-Id"] != first.headers["X-Session-Id"]


# Filters.


def test_sessions_are_filtered_by_all_that_is_known_of_them(proxy: Proxy, session: str) -> None:
    names = {name: f"{session}-{name}" for name in "abc"}
    proxy.tape.create_session(names["a"], group_id=session, task_id="t", metadata={"seed": 1, "env": "x", "ok": True})
    proxy.tape.create_session(names["b"], group_id=session, policy_version="step-9", metadata={"seed": "1"})
    proxy.tape.create_session(names["c"], group_id=session, metadata={"rate": 0.5})
    play(proxy, names["b"])
    proxy.tape.finish(names["b"])
    created = proxy.tape.get_session(names["b"]).created_at

    def found(**wanted: object) -> str:
        every = proxy.tape.sessions(group_id=session, **wanted)  # type: ignore[arg-type]
        return "".join(each.id[-1] for each in every)

    assert found() == "abc"
    assert (found(state="finished"), found(state="open")) == ("b", "ac")
    assert (found(task_id="t"), found(policy_version="step-9"), found(outcome="stop")) == ("a", "b", "b")
    assert (found(created_after=created), found(created_before=created)) == ("bc", "a")
    assert (found(finished_after=created), found(finished_before=created)) == ("b", "")
    assert (found(metadata={"seed": 1}), found(metadata={"seed": "1"})) == ("a", "b")
    assert (found(metadata={"rate": 0.5}), found(metadata={"ok": True}), found(metadata={"seed": None})) == (
        "c",
        "a",
        "c",
    )
    assert (found(metadata={"seed": 1, "env": "x"}), found(metadata={"seed": 1, "env": "y"})) == ("a", "")
    assert found(page_size=1) == "abc"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/sessions?grup_id=g", "there is no parameter 'grup_id' here; there are: after, created_after"),
        ("/sessions?state=done", "state: Input should be 'open', 'finished' or 'discarded'"),
        ("/sessions?limit=0", "limit: Input should be greater than or equal to 1"),
        ("/sessions?after=x", "after is not a cursor"),
        ("/samples?per_turn=perhaps", "per_turn: Input should be a valid boolean"),
        ("/samples?outcomes=stop,fell", "outcomes: Input should be 'stop', 'length'"),
        ("/samples?max_length=0", "max_length is 0: it must be 1 or more tokens"),
        ("/samples?max_staleness=1", "go together"),
        ("/samples?format=csv", "format 'csv': there are json (application/json), ndjson"),
        ("/samples/summary?limit=3", "there is no parameter 'limit' here"),
    ],
)
def test_query_that_cannot_be_meant_is_refused(proxy: Proxy, path: str, said: str) -> None:
    status, _, message = refused(proxy.http.get(path))
    assert status == 400
    assert said in message


def test_body_with_an_unknown_field_is_refused(proxy: Proxy) -> None:
    status, code, message = refused(proxy.http.post("/sessions", json={"task": "t"}))
    assert (status, code) == (400, "invalid_value")
    assert "task" in message


# Rewards.


def test_rewards_are_set_changed_and_taken_back(proxy: Proxy, session: str) -> None:
    play(proxy, session)
    first, second = (turn.id for turn in proxy.tape.turns(session))
    proxy.tape.reward(session, 1.0, turns={first: 0.25}, tokens={second: np.array([0.5, -0.5], np.float32)})
    (sample,) = proxy.tape.samples(session)
    assert (sample.reward, sample.turn_rewards) == (1.0, [0.25, None])
    assert sample.token_rewards is not None
    assert sample.token_rewards[-2:].tolist() == [0.5, -0.5]
    assert not sample.token_rewards[:-2].any()
    proxy.tape.finish(session)
    said = proxy.tape.reward(session, turns={first: None, second: 2.0})
    assert (said.reward, said.turns, said.tokens) == (1.0, {second: 2.0}, {second: [0.5, -0.5]})
    said = proxy.tape.reward(session, None, tokens={second: None})
    assert (said.reward, said.turns, said.tokens) == (None, {second: 2.0}, {})


def test_rewards_that_fit_no_turn_are_refused_and_nothing_of_them_is_kept(proxy: Proxy, session: str) -> None:
    play(proxy, session, turns=1)
    (turn,) = proxy.tape.turns(session)
    for wrong, said in [
        ({"turns": {"nobody": 1.0}}, "has no turn 'nobody'"),
        ({"tokens": {turn.id: [1.0]}}, "1 rewards for a completion of 2 tokens"),
    ]:
        with pytest.raises(TrajectoryError, match=said):
            proxy.tape.reward(session, 5.0, **wrong)  # type: ignore[arg-type]
    assert proxy.tape.rewards(session).reward is None


# Samples and formats.


@pytest.fixture(scope="module")
def finished(proxy: Proxy) -> list[str]:
    """Sessions of a group, finished in this order."""
    names = [f"formats-{number}" for number in range(5)]
    for name in names:
        proxy.tape.create_session(name, group_id="formats", metadata={"name": name})
        play(proxy, name, turns=3)
        proxy.tape.finish(name)
    return names


def same(left: Sample, right: Sample) -> bool:
    for name in Sample.__dataclass_fields__:
        a, b = getattr(left, name), getattr(right, name)
        if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
            if not np.array_equal(a, b, equal_nan=name == "logprobs"):
                return False
        elif a != b:
            return False
    return True


def test_every_format_says_the_same(proxy: Proxy, finished: list[str]) -> None:
    whole = [sample for name in finished for sample in proxy.tape.samples(name)]
    answers = {
        name: proxy.http.get("/samples", params={"group_id": "formats"}, headers={"Accept": media_type})
        for name, media_type in {
            "json": "application/json",
            "ndjson": "application/x-ndjson",
            "arrow": "application/vnd.apache.arrow.stream",
            "parquet": "application/vnd.apache.parquet",
        }.items()
    }
    for name, answer in answers.items():
        assert name in answer.headers["Content-Type"]
        by_name = proxy.http.get("/samples", params={"group_id": "formats", "format": name})
        assert by_name.content == answer.content
        assert answer.headers["X-Tickertape-More"] == "false"
    stream = pa.ipc.open_stream(answers["arrow"].content)
    assert stream.schema == SCHEMA
    table = stream.read_all()
    parquet = pq.read_table(io.BytesIO(answers["parquet"].content))
    assert parquet.schema == SCHEMA
    assert parquet.drop(["logprobs"]).equals(table.drop(["logprobs"])), "but for NaN, which equals nothing"
    assert all(map(same, *([s for b in t.to_batches() for s in samples_of(b)] for t in (parquet, table))))
    columns = [sample for part in table.to_batches() for sample in samples_of(part)]
    assert all(same(left, right) for left, right in zip(columns, whole, strict=True))
    lines = [orjson.loads(line) for line in answers["ndjson"].content.splitlines()]
    body = answers["json"].json()
    assert body["samples"] == lines
    assert body["next"] == answers["json"].headers["X-Tickertape-Next"]
    for line, sample in zip(lines, whole, strict=True):
        assert line["token_ids"] == sample.token_ids.tolist()
        assert line["metadata"] == sample.metadata
        logprobs = np.array(line["logprobs"], np.float32)
        assert np.array_equal(logprobs, sample.logprobs, equal_nan=True)


def test_client_that_accepts_nothing_there_is_hears_what_there_is(proxy: Proxy) -> None:
    answer = proxy.http.get("/samples", headers={"Accept": "text/csv"})
    assert refused(answer)[:2] == (406, "not_acceptable")
    assert "application/vnd.apache.parquet" in refused(answer)[2]


def test_samples_page_by_sessions_and_the_cursor_goes_on_later(proxy: Proxy, finished: list[str]) -> None:
    pages = list(proxy.tape.sample_pages(group_id="formats", limit=2))
    assert [[sample.session_id for sample in page.samples] for page in pages] == [
        finished[:2],
        finished[2:4],
        finished[4:],
    ]
    assert [page.more for page in pages] == [True, True, False]
    assert list(proxy.tape.sample_pages(group_id="formats", after=pages[-1].next)) == []
    by_tokens = proxy.tape.sample_pages(group_id="formats", max_tokens=1)
    assert [len(page.samples) for page in by_tokens] == [1] * 5, "a page is never empty while there are samples"
    assert [sample.session_id for sample in proxy.tape.finished_samples(group_id="formats", page_size=2)] == finished


def test_deleting_the_newest_session_hides_none_from_a_cursor(proxy: Proxy, session: str) -> None:
    play(proxy, f"{session}-1", turns=1)
    proxy.tape.finish(f"{session}-1")
    *_, last = proxy.tape.sample_pages(after="0")
    proxy.tape.delete(f"{session}-1")
    play(proxy, f"{session}-2", turns=1)
    proxy.tape.finish(f"{session}-2")
    (page,) = proxy.tape.sample_pages(after=last.next)
    assert [sample.session_id for sample in page.samples] == [f"{session}-2"]


def test_summary_tells_what_one_sample_a_turn_would_cost(proxy: Proxy, finished: list[str]) -> None:
    paths = list(proxy.tape.finished_samples(group_id="formats"))
    alone = list(proxy.tape.finished_samples(group_id="formats", per_turn=True))
    summary = proxy.tape.summary(group_id="formats")
    assert (summary.sessions, summary.samples, len(alone)) == (5, 5, 15)
    assert summary.sample_tokens == sum(len(sample.token_ids) for sample in paths)
    assert summary.per_turn_tokens == sum(len(sample.token_ids) for sample in alone)
    assert summary.sampled_tokens == sum(int(sample.loss_mask.sum()) for sample in alone) == 30


def test_options_hold_for_one_session_and_for_all(proxy: Proxy, finished: list[str]) -> None:
    name = finished[0]
    assert len(proxy.tape.samples(name, per_turn=True)) == 3
    assert proxy.tape.samples(name, outcomes=["length", "aborted"]) == []
    assert proxy.tape.samples(name, min_version=4) == []
    assert len(proxy.tape.samples(name, current_version="step-5", max_staleness=2)) == 1
    (whole,) = proxy.tape.samples(name)
    (cut,) = proxy.tape.samples(name, max_length=len(whole.token_ids) - 1)
    assert (cut.truncated, cut.turn_ids) == ("turn", whole.turn_ids[:2])
    (inside,) = proxy.tape.finished_samples(
        group_id="formats", metadata={"name": name}, max_length=len(whole.token_ids) - 1, cut="token"
    )
    assert (inside.truncated, inside.turn_ids, inside.loss_mask.sum()) == ("token", whole.turn_ids, 5)
    answer = proxy.http.get(f"/sessions/{name}/samples?max_length={len(whole.token_ids) - 1}").json()
    assert answer["left_out"] == {whole.turn_ids[2]: "max_length"}
    assert answer["statistics"]["sampled_turns"] == 3


# Sessions as blocks.


def test_block_finishes_its_session_and_discards_it_if_it_raises(proxy: Proxy) -> None:
    with proxy.tape.session(group_id="block") as rollout:
        assert rollout.base_url == f"{proxy.url}/sessions/{rollout.id}/v1"
        assert rollout.api_key == rollout.agent_key
        play(proxy, rollout.id)
        rollout.reward(1.0)
        assert len(rollout.samples(per_turn=True)) == len(rollout.turns()) == 2
    assert proxy.tape.get_session(rollout.id).state == "finished"
    failed = proxy.tape.session()
    with pytest.raises(RuntimeError, match="the environment broke"), failed:
        raise RuntimeError("the environment broke")
    assert proxy.tape.get_session(failed.id).state == "discarded"
    with proxy.tape.session() as given_up:
        given_up.discard()
    assert proxy.tape.get_session(given_up.id).state == "discarded"
