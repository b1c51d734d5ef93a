"""Retention: the tape stays small, and nothing that is open or leased goes, and nothing goes unsaid."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, scripted
from tests.server.tapes import written_tape
from tickertape.clients import TrajectoryError

#: Of 4 + 4 tokens each.
NAMES = [f"s{number}" for number in range(8)]
END = 151645


@pytest.fixture
def proxy(place: str) -> Iterator[Proxy]:
    written_tape(place, NAMES)
    with scripted(ScriptedEngine(lambda _ids, _sampling: [9707, END]), Path(), db=place) as proxy:
        yield proxy


def left(proxy: Proxy) -> list[str]:
    return sorted(session.id for session in proxy.tape.sessions())


def test_size_takes_discarded_sessions_first_then_acked_ones_then_the_oldest(proxy: Proxy) -> None:
    lease = proxy.tape.lease("a", limit=2)
    assert lease.id
    proxy.tape.ack(lease.id)
    proxy.tape.discard("s7")
    report = proxy.tape.retain(max_tokens=4 * 8)["report"]
    assert report["dropped"] == {"discarded": 1, "acked": 2, "unacked": 1}
    assert (report["dropped_tokens"], report["over_tokens"]) == (32, 0)
    assert left(proxy) == ["s3", "s4", "s5", "s6"]


def test_open_and_leased_sessions_stay_and_the_report_says_so(proxy: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    proxy.chat("alive", [{"role": "user", "content": "Hello"}])
    lease = proxy.tape.lease("a", limit=3)
    with caplog.at_level(logging.WARNING, logger="tickertape"):
        report = proxy.tape.retain(keep_seconds=0)["report"]
    assert (report["dropped"]["unacked"], report["kept_open"], report["kept_leased"]) == (5, 1, 3)
    assert "5 unacked" in caplog.text
    assert "due, but kept: 1 open, 3 leased" in caplog.text
    assert left(proxy) == ["alive", "s0", "s1", "s2"]
    small = proxy.tape.retain(max_tokens=1)["report"]
    assert small["over_tokens"] > 0
    assert sum(small["dropped"].values()) == 0
    assert lease.id
    assert proxy.tape.ack(lease.id).acked == 3, "the lease was left alone"


def test_young_sessions_stay(proxy: Proxy) -> None:
    assert sum(proxy.tape.retain(keep_seconds=3600)["report"]["dropped"].values()) == 0
    assert left(proxy) == NAMES


def test_dry_run_drops_nothing(proxy: Proxy) -> None:
    assert proxy.tape.retain(max_bytes=0, dry_run=True)["report"]["dropped"]["unacked"] == 8
    assert left(proxy) == NAMES


def test_dropped_session_is_gone_with_all_that_was_of_it_and_its_id_is_free(proxy: Proxy) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    answer = proxy.chat("again", messages).json()["choices"][0]["message"]
    proxy.tape.finish("again")
    proxy.tape.retain(max_tokens=0)
    with pytest.raises(TrajectoryError, match="no session 'again'"):
        proxy.tape.turns("again")
    more = proxy.chat("again", [*messages, answer, {"role": "user", "content": "More"}])
    assert more.status_code == 200
    assert [turn.parent_id for turn in proxy.tape.turns("again")] == [None]


def test_idle_sessions_are_finished_so_that_agents_alone_leave_samples(proxy: Proxy) -> None:
    proxy.chat("alone", [{"role": "user", "content": "Hello"}])
    proxy.tape.create_session("empty")
    assert proxy.tape.retain(finish_idle_seconds=3600)["finished_idle"] == 0
    assert proxy.tape.retain(finish_idle_seconds=0)["finished_idle"] == 1
    assert proxy.tape.get_session("alone").state == "finished"
    assert proxy.tape.get_session("empty").state == "open", "nothing was asked of it yet"


def test_server_keeps_its_limits_by_itself(tmp_path: Path) -> None:
    written_tape(tmp_path / "tape.db", NAMES)
    engine = ScriptedEngine(lambda _ids, _sampling: [1])
    with scripted(engine, tmp_path, keep_tokens=8, keep_every=0.05) as proxy:
        patience = time.monotonic() + 20
        while len(left(proxy)) > 1 and time.monotonic() < patience:
            time.sleep(0.05)
        assert left(proxy) == ["s7"]
