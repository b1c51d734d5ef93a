"""What is finished, deleted or taken back for its age is that old by a clock that cannot be set."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, StartProxy
from tickertape.server.store.age_clock import AgeClock

DAY = 86400.0
HELLO = [{"role": "user", "content": "Hello"}]
END = 151645


@dataclass
class Clocks:
    """Two clocks, one of which can be set."""

    wall: float = 1_000_000.0
    steady: float = 50.0

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds

    def ages(self) -> AgeClock:
        return AgeClock(lambda: self.wall, lambda: self.steady)


@given(
    steps=st.lists(st.tuples(st.floats(0, 10 * DAY), st.one_of(st.just(0.0), st.floats(-9 * DAY, 9 * DAY)))),
    limit=st.floats(1, 10 * DAY),
)
def test_nothing_is_older_than_the_time_that_passed(steps: list[tuple[float, float]], limit: float) -> None:
    """Whatever the clock was set to: what is taken for older than a limit is."""
    clocks = Clocks()
    ages = clocks.ages()
    stamps: list[tuple[float, float]] = []
    for passed, jump in steps:
        stamps.append((clocks.wall, clocks.steady))
        clocks.pass_(passed)
        ages.now(limit)
        clocks.wall += jump
        now = ages.now(limit)
        for stamp, at in stamps:
            assert not stamp < now - limit - 2 - len(steps) or clocks.steady - at > limit - 2 - len(steps)


def test_a_clock_that_was_set_forward_counts_again_after_the_limit() -> None:
    clocks = Clocks()
    ages = clocks.ages()
    before = clocks.wall
    clocks.wall += 8 * DAY
    assert ages.now(7 * DAY) == before
    clocks.pass_(7 * DAY)
    assert ages.now(7 * DAY) == clocks.wall
    assert before < ages.now(7 * DAY) - 7 * DAY


def test_without_a_step_it_is_the_wall_clock() -> None:
    clocks = Clocks()
    ages = clocks.ages()
    clocks.pass_(3 * DAY)
    assert ages.now(60) == clocks.wall


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> "SetClock":
    return SetClock(monkeypatch)


class SetClock:
    """Sets this process's wall clock forward."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._real = time.time
        self._monkeypatch = monkeypatch

    def forward(self, seconds: float) -> None:
        self._monkeypatch.setattr(time, "time", lambda: self._real() + seconds)


def talking(start_proxy: StartProxy) -> Proxy:
    return start_proxy(ScriptedEngine(lambda _ids, _sampling: [9707, END]))


def test_an_active_session_is_not_idle_because_the_clock_was_set(
    start_proxy: StartProxy, set_clock: SetClock, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = talking(start_proxy)
    proxy.chat("active", HELLO)
    with caplog.at_level(logging.WARNING, "tickertape"):
        set_clock.forward(3600)
        assert proxy.tape.retain(finish_idle_seconds=600)["finished_idle"] == 0
    assert proxy.tape.get_session("active").state == "open"
    assert "the clock was set forward by 3600 s" in caplog.text


def test_a_session_that_was_just_finished_is_not_deleted_because_the_clock_was_set(
    start_proxy: StartProxy, set_clock: SetClock
) -> None:
    proxy = talking(start_proxy)
    proxy.chat("finished", HELLO)
    proxy.tape.finish("finished")
    set_clock.forward(8 * DAY)
    assert sum(proxy.tape.retain(keep_seconds=7 * DAY)["report"]["dropped"].values()) == 0
    assert [session.id for session in proxy.tape.sessions()] == ["finished"]


def test_a_lease_is_not_handed_to_another_consumer_because_the_clock_was_set(
    start_proxy: StartProxy, set_clock: SetClock
) -> None:
    proxy = talking(start_proxy)
    proxy.chat("leased", HELLO)
    proxy.tape.finish("leased")
    assert proxy.tape.lease("a", expires_in=600).samples
    set_clock.forward(3600)
    assert not proxy.tape.lease("b", expires_in=600).samples


def test_time_in_which_no_server_ran_makes_nothing_older(
    start_proxy: StartProxy, set_clock: SetClock, tmp_path: Path
) -> None:
    """It cannot be told from a clock that was set while the server was restarted."""
    from tests.server.conftest import scripted

    engine = ScriptedEngine(lambda _ids, _sampling: [9707, END])
    with scripted(engine, tmp_path) as proxy:
        proxy.chat("finished", HELLO)
        proxy.tape.finish("finished")
    set_clock.forward(8 * DAY)
    with scripted(engine, tmp_path) as proxy:
        assert sum(proxy.tape.retain(keep_seconds=7 * DAY)["report"]["dropped"].values()) == 0
        assert sum(proxy.tape.retain(keep_seconds=0)["report"]["dropped"].values()) == 1, "asked for by hand"
