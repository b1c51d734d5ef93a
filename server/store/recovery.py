"""A server's findings on its tape when it starts: reported in a few lines, and nothing of it is repaired silently."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import sqlalchemy as sa

from tickertape.server.store import runs, schema
from tickertape.server.store.checking import Broken, check_recent
from tickertape.server.store.runs import ServerRun
from tickertape.server.store.schema import State
from tickertape.server.store.store import Store, StoreError

#: Seconds that looking at sessions may take; what is not looked at then is not said to be right.
CHECK_SECONDS = 1.0

_log = logging.getLogger("tickertape")


@dataclass(frozen=True, slots=True)
class Found:
    """The content of a tape, counted by its sessions' own counters."""

    schema_version: int
    sessions: dict[str, int]
    """By state."""
    turns: int
    last_turn_at: float | None


@dataclass(slots=True)
class StartupReport:
    """Report of what was found, and what was done."""

    found: Found
    unclean: list[ServerRun] = field(default_factory=list)
    """Earlier runs that were not stopped but ended, newest first, as far back as the last that was stopped."""
    clean: ServerRun | None = None
    """The last run, if it was stopped."""
    beside: list[ServerRun] = field(default_factory=list)
    """Other servers that seem to be running on this tape."""
    checked: int = 0
    """Sessions whose trees were looked at."""
    broken: list[Broken] = field(default_factory=list)
    away: float = 0.0
    """Seconds since the last sign of life on it, by the clock."""

    def lines(self, now: float) -> Iterator[str]:
        """For people."""
        found, states = self.found, self.found.sessions
        said = ", ".join(f"{states[state]} {state}" for state in State if states.get(state)) or "none yet"
        last = "" if found.last_turn_at is None else f", the last at {_moment(found.last_turn_at)}"
        yield f"schema version {found.schema_version}; sessions: {said}; {found.turns} turns{last}"
        if self.clean is not None and self.clean.stopped_at is not None:
            yield f"the last server on it was stopped in good order at {_moment(self.clean.stopped_at)}"
        for run in self.unclean:
            yield f"the server {run.pid} on {run.host} was not stopped: it was last seen at {_moment(run.seen_at)}"
        for run in self.beside:
            yield f"the server {run.pid} on {run.host} runs on it too, seen {now - run.seen_at:.0f} s ago"
        sound = f"{self.checked - len({broken.session_id for broken in self.broken})} of {self.checked}"
        yield f"the sessions that were active last: {sound} looked at are whole"
        unchecked = sum(states.values()) - self.checked
        yield f"not checked: {unchecked} other sessions, and whether turns are missing at the end of a session"
        for broken in self.broken:
            yield f"session {broken.session_id} is broken: {broken.finding}"


async def recover(store: Store) -> StartupReport:
    """Looks at a tape before it is served, and begins a run.

    Raises:
        StoreError: the tape cannot be read or written.
    """
    report = StartupReport(await store.read(found))
    now = time.time()
    earlier = await store.read(runs.last)
    signs = [run.seen_at for run in earlier] + [report.found.last_turn_at or 0.0] * bool(earlier)
    report.away = max(0.0, now - max(signs, default=now))
    for run in earlier:
        if run.stopped_at is not None:
            report.clean = None if report.unclean else run
            break
        alive = store.is_shared and now - run.seen_at < runs.DEAD
        (report.beside if alive else report.unclean).append(run)
    report.checked, report.broken = await store.read(check_recent, CHECK_SECONDS)
    run_id = runs.new_run_id()
    await store.write(runs.begin, run_id, now)
    store.run_id = run_id
    return report


def found(connection: sa.Connection) -> Found:
    """Counts what is there without a look at turns."""
    table = schema.sessions.c
    counted = sa.select(table.state, sa.func.count(), sa.func.sum(table.turns), sa.func.max(table.active_at))
    rows = connection.execute(counted.group_by(table.state)).all()
    return Found(
        connection.scalar(sa.select(schema.tape.c.schema_version)) or 0,
        {state: count for state, count, _, _ in rows},
        int(sum(turns or 0 for _, _, turns, _ in rows)),
        max((at for _, _, turns, at in rows if turns), default=None),
    )


async def end(store: Store) -> None:
    """Notes that the run ends in good order, if the tape can be written."""
    run_id, store.run_id = store.run_id, None
    if run_id is None:
        return
    try:
        await store.write(runs.end, run_id, time.time())
    except StoreError as error:
        _log.warning("the end of this run could not be put on tape: %s", error)


def tell(report: StartupReport) -> None:
    """To the log."""
    for line in report.lines(time.time()):
        _log.log(logging.WARNING if report.broken else logging.INFO, "tape: %s", line)


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
