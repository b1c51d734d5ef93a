"""DURABLE, around a server's life: what it puts aside when it must stop, and what it finds when it starts."""

import asyncio
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.server.failing_stores import locked
from tests.server.store.test_store import turn
from tickertape.server.store.database import StoreUnavailable
from tickertape.server.store.durability import Durability, Sync
from tickertape.server.store.recovery import end, recover
from tickertape.server.store.store import Store
from tickertape.server.trajectories.turn import Turn

pytestmark = pytest.mark.slow

IMPATIENT = Durability(patience=0.1)


def sampled(number: int, session_id: str = "s") -> Turn:
    return turn(
        number,
        session_id,
        prompt_delta=np.arange(3, dtype=np.int32),
        prompt_spans=[(0, 1, 3)],
        completion=np.array([number, 7], np.int32),
        logprobs=np.array([-0.5, np.nan], np.float32),
        versions=[("v1", 2)],
        tools=[{"type": "function", "function": {"name": "f"}}],
        tools_digest="d",
        token_arrays={"routed_experts": np.ones((2, 4), np.int16)},
        context_digest=b"\x00\xff",
    )


async def test_what_a_tape_cannot_take_before_the_end_is_named_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    store = Store(folder / "tape.db", durability=IMPATIENT)
    await store.commit(sampled(0))
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(StoreUnavailable, match="gone"):
        await store.commit(sampled(1, "lonely"))
    with caplog.at_level(logging.ERROR, "tickertape"):
        await asyncio.to_thread(store.close)
    (line,) = [line for line in caplog.messages if "is lost" in line]
    assert line.startswith("turn lonely-1 of session lonely is lost, with 3 prompt tokens and 2 sampled tokens")


async def test_beyond_the_memory_of_the_backlog_calls_are_refused_before_they_cost_anything(tmp_path: Path) -> None:
    store = Store(tmp_path / "tape.db", durability=Durability(patience=5, backlog_memory=1))
    store.check()
    with locked(tmp_path / "tape.db"):
        waiting = asyncio.ensure_future(store.commit(sampled(0)))
        await asyncio.sleep(0)  # it is given to the writer; that the tape is locked, nobody knows yet
        with pytest.raises(StoreUnavailable, match=r"bytes of turns wait for the tape, 1 may \(backlog_memory\)"):
            store.check()
    await waiting
    store.check()
    store.close()


_SERVER = """
import asyncio, sys, time
from tickertape.server.store.recovery import recover
from tickertape.server.store.store import Store


async def main():
    store = Store(sys.argv[1], serving=True)
    await recover(store)
    print("up", flush=True)
    time.sleep(60)

asyncio.run(main())
"""


def _killed_server(path: Path) -> int:
    """The id of a process that served the tape and was killed."""
    process = subprocess.Popen([sys.executable, "-c", _SERVER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    return process.pid


async def test_start_tells_whether_the_last_run_was_stopped_or_killed(tmp_path: Path) -> None:
    path = tmp_path / "tape.db"
    store = Store(path)
    report = await recover(store)
    assert (report.clean, report.unclean) == (None, [])
    await store.commit(sampled(0))
    await end(store)
    store.close()

    store = Store(path)
    report = await recover(store)
    assert report.clean is not None
    assert report.clean.pid == os.getpid()
    await end(store)
    store.close()

    killed = _killed_server(path)

    store = Store(path)
    report = await recover(store)
    assert [run.pid for run in report.unclean] == [killed]
    assert report.clean is None
    said = "\n".join(report.lines(time.time()))
    assert "schema version" in said
    assert "sessions: 1 open; 1 turns, the last at 1970-01-01 00:00:00 UTC" in said
    assert f"the server {killed} on " in said
    store.close()


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        ("DELETE FROM turns WHERE id = 'bad-1'", "counts 3 turns and has 2"),
        ("UPDATE turns SET seq = 9 WHERE id = 'bad-2'", "places of its turns are not 0 to 2"),
        ("UPDATE turns SET parent_id = 'nobody' WHERE id = 'bad-2'", "parent of turn bad-2 does not stand before it"),
        ("UPDATE turns SET parent_id = 'bad-2' WHERE id = 'bad-1'", "parent of turn bad-1 does not stand before it"),
        ("UPDATE turns SET logprobs = x'00000000' WHERE id = 'bad-1'", "2 sampled tokens and 1 logprobs"),
        ("UPDATE turns SET prompt_delta = x'0000' WHERE id = 'bad-1'", "2 bytes of prompt_delta"),
        ("UPDATE turns SET prompt_delta = x'00000000' WHERE id = 'bad-1'", "cover 3 of 1 prompt tokens"),
        ("UPDATE turns SET completion = x'', logprobs = x'' WHERE id = 'bad-1'", "cover 2 of 0 sampled tokens"),
        ("UPDATE turns SET layout = 'x' WHERE id = 'bad-1'", "layout of turn bad-1 cannot be read"),
    ],
)
async def test_broken_session_is_named_and_left_as_it_is(tmp_path: Path, damage: str, finding: str) -> None:
    path = tmp_path / "tape.db"
    store = Store(path)
    for name in ("good", "bad"):
        for number in range(3):
            await store.commit(sampled(number, name))
    store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(damage)
        before = list(other.execute("SELECT * FROM turns ORDER BY id"))
    store = Store(path)
    report = await recover(store)
    assert report.checked == 2
    assert {broken.session_id for broken in report.broken} == {"bad"}
    assert any(finding in broken.finding for broken in report.broken), report.broken
    said = "\n".join(report.lines(time.time()))
    assert "1 of 2 looked at are whole" in said
    assert "not checked: 0 other sessions, and whether turns are missing at the end of a session" in said
    store.close()
    with closing(sqlite3.connect(path)) as other:
        assert list(other.execute("SELECT * FROM turns ORDER BY id")) == before


@pytest.mark.parametrize(("sync", "level"), [(Sync.FULL, 2), (Sync.NORMAL, 1)])
async def test_sync_level_is_the_one_that_was_asked_for(tmp_path: Path, sync: Sync, level: int) -> None:
    store = Store(tmp_path / "tape.db", durability=Durability(sync=sync))

    def ask(connection: object) -> tuple[object, object]:
        run = connection.exec_driver_sql  # type: ignore[attr-defined]
        return run("PRAGMA synchronous").scalar(), run("PRAGMA journal_mode").scalar()

    assert await store.read(ask) == (level, "wal")
    assert await store.write(ask) == (level, "wal")
    store.close()
