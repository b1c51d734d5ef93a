"""Leases: at least once, never two holders at a time, acked once."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, scripted
from tests.server.tapes import written_tape
from tickertape.clients import TrajectoryError
from tickertape.server.errors import Conflict
from tickertape.server.store import leases
from tickertape.server.store.database import Database
from tickertape.server.store.filters import SessionFilter
from tickertape.server.store.schema import metadata as tables
from tickertape.server.store.schema import sessions as session_table
from tickertape.server.trajectories.options import SampleOptions


@contextmanager
def serving_tape(place: str, names: list[str], turns: int = 1) -> Iterator[Proxy]:
    written_tape(place, names, turns=turns)
    with scripted(ScriptedEngine(lambda _ids, _sampling: [1]), Path(), db=place) as proxy:
        yield proxy


NAMES = [f"s{number}" for number in range(6)]


@pytest.fixture
def proxy(place: str) -> Iterator[Proxy]:
    with serving_tape(place, NAMES, turns=3) as proxy:
        yield proxy


def sessions_of(lease: object) -> list[str]:
    return [sample.session_id for sample in lease.samples]  # type: ignore[attr-defined]


def test_two_consumers_never_hold_the_same_sample(proxy: Proxy) -> None:
    first, second = proxy.tape.lease("a", limit=4), proxy.tape.lease("b", limit=4)
    assert (sessions_of(first), sessions_of(second)) == (NAMES[:4], NAMES[4:])
    assert second.remaining == {"available": 0, "stale": 0, "leased": 6, "open": 0}
    nothing = proxy.tape.lease("c")
    assert (nothing.id, nothing.samples) == (None, [])
    assert proxy.tape.get_session("s0").lease_id == first.id


def test_acked_samples_never_come_again_and_released_ones_do(proxy: Proxy) -> None:
    first = proxy.tape.lease("a", limit=4)
    assert first.id
    assert proxy.tape.ack(first.id, ["s0", "s1"]).acked == 2
    state = proxy.tape.release(first.id)
    assert (state.acked, state.released, state.closed_at is None) == (2, 2, False)
    assert sessions_of(proxy.tape.lease("b", limit=9)) == NAMES[2:]
    acked = proxy.tape.get_session("s0")
    assert (acked.acked_by, acked.lease_id, acked.acked_at is None) == ("a", None, False)


def test_acking_again_changes_nothing_so_that_a_lost_answer_can_be_asked_for_anew(proxy: Proxy) -> None:
    lease = proxy.tape.lease("a", limit=2)
    assert lease.id
    once = proxy.tape.ack(lease.id)
    assert proxy.tape.ack(lease.id) == once == proxy.tape.lease_state(lease.id)
    assert proxy.tape.ack(lease.id, ["s0"]) == once


def test_expired_lease_keeps_its_samples_until_somebody_asks(proxy: Proxy) -> None:
    late = proxy.tape.lease("late", limit=2, expires_in=0.5)
    lost = proxy.tape.lease("lost", limit=2, expires_in=0.5)
    time.sleep(0.6)
    assert late.id
    assert lost.id
    assert proxy.tape.ack(late.id).acked == 2, "nobody else had them"
    assert sessions_of(proxy.tape.lease("next", limit=9)) == NAMES[2:]
    with pytest.raises(TrajectoryError, match="2 of its 2 sessions went back") as caught:
        proxy.tape.ack(lost.id)
    assert (caught.value.status, caught.value.code) == (409, "lease_expired")
    with pytest.raises(TrajectoryError, match="went back"):
        proxy.tape.extend(lost.id, 10)
    with pytest.raises(TrajectoryError, match="went back"):
        proxy.tape.leased_samples(lost.id)


def test_extended_lease_lasts(proxy: Proxy) -> None:
    lease = proxy.tape.lease("a", limit=2, expires_in=0.5)
    assert lease.id
    assert proxy.tape.extend(lease.id, 60).expires_at > lease.expires_at + 50
    time.sleep(0.6)
    assert sessions_of(proxy.tape.lease("b", limit=9)) == NAMES[2:]
    assert sessions_of(proxy.tape.leased_samples(lease.id)) == NAMES[:2]


def test_session_that_is_not_held_cannot_be_acked(proxy: Proxy) -> None:
    lease = proxy.tape.lease("a", limit=2)
    assert lease.id
    with pytest.raises(TrajectoryError, match="does not hold the session 's5'"):
        proxy.tape.ack(lease.id, ["s0", "s5"])
    assert proxy.tape.lease_state(lease.id).acked == 0
    with pytest.raises(TrajectoryError, match="no lease 'nobody'") as caught:
        proxy.tape.ack("nobody")
    assert caught.value.status == 404


def test_limits_are_in_samples_or_tokens_and_a_session_is_not_divided(proxy: Proxy) -> None:
    assert sessions_of(proxy.tape.lease("a", limit=2, per_turn=True)) == ["s0"] * 3
    assert sessions_of(proxy.tape.lease("a", limit=7, per_turn=True)) == ["s1"] * 3 + ["s2"] * 3
    assert sessions_of(proxy.tape.lease("a", max_tokens=49)) == ["s3", "s4"]


def test_lease_by_filter_and_freshness(proxy: Proxy) -> None:
    """Turn n of every session was sampled with step-n."""
    proxy.tape.update_session("s3", group_id="g", metadata={"env": "x"})
    assert sessions_of(proxy.tape.lease("a", group_id="g", metadata={"env": "x"})) == ["s3"]
    stale = proxy.tape.lease("a", current_version="step-9", max_staleness=6)
    assert stale.id is None
    assert (stale.remaining["stale"], stale.remaining["available"]) == (5, 0)
    fresh = proxy.tape.lease("a", min_version=2)
    assert [int(sample.loss_mask.sum()) for sample in fresh.samples] == [4] * 5


def test_leased_session_can_be_neither_discarded_nor_deleted(proxy: Proxy) -> None:
    lease = proxy.tape.lease("a", limit=1)
    assert lease.id
    for act in (proxy.tape.discard, proxy.tape.delete):
        with pytest.raises(TrajectoryError, match=f"out under {lease.id}"):
            act("s0")
    proxy.tape.ack(lease.id)
    proxy.tape.delete("s0")


def test_loop_over_leases_acks_what_is_done_and_gives_back_what_is_not(proxy: Proxy) -> None:
    seen: list[str] = []

    def train() -> None:
        for lease in proxy.tape.leases("a", limit=2):
            seen.extend(sessions_of(lease))
            if len(seen) == 4:
                raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        train()
    assert [proxy.tape.get_session(name).acked_by for name in NAMES] == ["a", "a", None, None, None, None]
    again = [name for lease in proxy.tape.leases("b", limit=2) for name in sessions_of(lease)]
    assert again == NAMES[2:]
    assert list(proxy.tape.leases("c")) == []


def test_json_lease_has_its_samples_with_it(proxy: Proxy) -> None:
    answer = proxy.http.post("/samples/lease", json={"consumer": "a", "limit": 1, "options": {"per_turn": True}}).json()
    assert (answer["lease"]["consumer"], len(answer["samples"])) == ("a", 3)
    for body, said in [
        ({"consumer": ""}, "consumer: String should have at least 1"),
        ({"consumer": "a", "options": {"max_length": 0}}, "max_length is 0"),
        ({"consumer": "a", "filter": {"grup": "g"}}, "grup"),
        ({"consumer": "a", "limits": 3}, "limits"),
    ]:
        refused = proxy.http.post("/samples/lease", json=body)
        assert refused.status_code == 400, body
        assert said in refused.json()["error"]["message"]


class Leasing(RuleBasedStateMachine):
    """Any order of leases, acks, releases, extensions and time going by."""

    def __init__(self, place: str = ":memory:") -> None:
        super().__init__()
        self.database = Database(place)
        self.now = 0.0
        self.number = 0
        self.finished = 0
        self.acks: Counter[str] = Counter()
        with self.database.writing() as connection:
            tables.drop_all(connection)
            tables.create_all(connection)

    def _write(self, function: object, *args: object, **kwargs: object) -> object:
        with self.database.writing() as connection:
            return function(connection, *args, **kwargs)  # type: ignore[operator]

    def _held(self) -> dict[str, str]:
        with self.database.reading() as connection:
            table = session_table.c
            rows = connection.execute(sa.select(table.id, table.lease_id).where(table.acked_at.is_(None)))
            return {row.id: row.lease_id for row in rows if row.lease_id is not None}

    @rule(samples=st.integers(1, 3))
    def finish(self, samples: int) -> None:
        self.finished += 1
        row = {"id": f"s{self.finished}", "created_at": 0.0, "state": "finished", "finish_number": self.finished}
        sizes = {"samples": samples, "sample_tokens": 10 * samples, "freshest": 0}
        self._write(lambda connection: connection.execute(session_table.insert().values(**row, **sizes)))

    @rule(limit=st.integers(1, 5), tokens=st.integers(1, 50), expires_in=st.integers(1, 5))
    def take(self, limit: int, tokens: int, expires_in: int) -> None:
        before = self._held()
        self.number += 1
        taken = self._write(
            leases.take, f"l{self.number}", "c", SessionFilter(), SampleOptions(), {},
            max_samples=limit, max_tokens=tokens, expires_in=expires_in, now=self.now,
        )  # fmt: skip
        alive = self._alive()
        for each in taken.sessions:  # type: ignore[attr-defined]
            assert not self.acks[each.id]
            assert before.get(each.id) not in alive - {f"l{self.number}"}, "somebody else holds it"
        if len(taken.sessions) > 1:  # type: ignore[attr-defined]
            assert sum(each.samples for each in taken.sessions) <= limit  # type: ignore[attr-defined]
            assert sum(each.tokens for each in taken.sessions) <= tokens  # type: ignore[attr-defined]

    def _alive(self) -> set[str]:
        with self.database.reading() as connection:
            return {
                f"l{number}"
                for number in range(1, self.number + 1)
                if (f"l{number}",) in set(connection.execute(sa.text("SELECT id FROM leases WHERE closed_at IS NULL")))
            }

    @rule(number=st.integers(1, 20), some=st.booleans())
    def ack(self, number: int, some: bool) -> None:
        lease_id = f"l{(number - 1) % self.number + 1}" if self.number else None
        if lease_id is None:
            return
        mine = [session_id for session_id, holder in self._held().items() if holder == lease_id]
        named = mine[: len(mine) // 2] if some else None
        try:
            self._write(leases.ack, lease_id, named, self.now)
        except (Conflict, leases.NotFound):
            return
        self.acks.update(mine if named is None else named)

    @rule(number=st.integers(1, 20))
    def release(self, number: int) -> None:
        if self.number and f"l{(number - 1) % self.number + 1}" in self._alive():
            self._write(leases.release, f"l{(number - 1) % self.number + 1}", None, self.now)

    @rule(seconds=st.integers(1, 4))
    def time_goes_by(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def each_is_acked_once_at_most_and_counted(self) -> None:
        assert all(times == 1 for times in self.acks.values())
        with self.database.reading() as connection:
            total = connection.scalar(sa.text("SELECT COALESCE(SUM(acked), 0) FROM leases"))
            marked = connection.scalar(sa.text("SELECT COUNT(*) FROM sessions WHERE acked_at IS NOT NULL"))
        assert total == marked == sum(self.acks.values())

    @invariant()
    def what_is_held_is_held_by_a_lease_that_lasts(self) -> None:
        assert set(self._held().values()) <= self._alive()

    def teardown(self) -> None:
        while True:
            self.now += 100
            self.number += 1
            taken = self._write(
                leases.take, f"l{self.number}", "last", SessionFilter(), SampleOptions(), {},
                max_samples=100, max_tokens=10_000, expires_in=1, now=self.now,
            )  # fmt: skip
            if not taken.sessions:  # type: ignore[attr-defined]
                break
            self._write(leases.ack, f"l{self.number}", None, self.now)
            self.acks.update(each.id for each in taken.sessions)  # type: ignore[attr-defined]
        assert self.acks == Counter({f"s{number}": 1 for number in range(1, self.finished + 1)}), "none is lost"
        self.database.close()


TestLeasing = Leasing.TestCase
TestLeasing.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)


def test_any_order_of_leases_on_postgresql(postgres_url: str) -> None:
    run_state_machine_as_test(
        lambda: Leasing(postgres_url), settings=settings(max_examples=5, stateful_step_count=20, deadline=None)
    )


_CONSUMER = """
import sys, time
from tickertape.clients import TrajectoryClient
url, name, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
with TrajectoryClient(url) as tape:
    for lease in tape.leases(name, limit=limit, expires_in=4, wait=8, min_version=0):
        tape.ack(lease.id)
        for sample in lease.samples:
            print(sample.id, flush=True)
"""


def consumer(url: str, name: str, limit: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", _CONSUMER, url, name, str(limit)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_10000_samples_for_two_consumers_one_of_them_killed(place: str) -> None:
    """Each sample is acked exactly once, and none is lost."""
    names = [f"s{number}" for number in range(10_000)]
    with serving_tape(place, names) as proxy:
        doomed, other = consumer(proxy.url, "doomed", 100), consumer(proxy.url, "other", 37)
        assert doomed.stdout is not None
        assert other.stdout is not None
        seen = [doomed.stdout.readline().strip() for _ in range(1500)]
        # It holds a lease that it cannot ack any more: another one of its name, taken now.
        held = proxy.tape.lease("doomed", limit=100, expires_in=4)
        doomed.kill()
        seen += doomed.stdout.read().split()
        doomed.wait()
        others = other.stdout.read().split()
        assert other.wait() == 0
        for process in (doomed, other):
            process.stdout.close()  # type: ignore[union-attr]
        acked = {each.id: each.acked_by for each in proxy.tape.sessions(page_size=1000) if each.acked_at is not None}
        assert len(held.samples) == 100
    assert sorted(acked) == sorted(names), "none is lost"
    whole = Counter(seen[:-1] + others)  # the last line may have been cut by the kill
    assert set(whole.values()) == {1}, "none was handled twice"
    database = Database(place)
    with database.reading() as connection:
        total, expired = connection.execute(sa.text("SELECT SUM(acked), SUM(expired) FROM leases")).one()
    database.close()
    assert total == 10_000, "each acked exactly once"
    assert expired >= 100, "what the killed one held went back"
    assert Counter(acked.values())["other"] > 1000
    assert len(others) >= 1000
