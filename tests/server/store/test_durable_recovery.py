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
from tickertape.server.trajectories.turn import Outcome, Turn

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


def there(folder: Path, pattern: str) -> list[Path]:
    return list(folder.glob(pattern))


async def put_aside(path: Path) -> Path:
    """Lets a server end while its tape is locked; the side file."""
    store = Store(path, durability=IMPATIENT)
    await store.commit(sampled(0))
    with locked(path):
        results = await asyncio.gather(store.commit(sampled(1)), store.commit(sampled(2)), return_exceptions=True)
        assert [type(result) for result in results] == [StoreUnavailable] * 2
        await asyncio.to_thread(store.close)
    (side,) = there(path.parent, "tape.db.*.unwritten.ndjson")
    return side


async def test_what_cannot_be_written_at_the_end_is_read_back_at_the_start(tmp_path: Path) -> None:
    side = await put_aside(tmp_path / "tape.db")
    assert len(side.read_bytes().splitlines()) == 2
    store = Store(tmp_path / "tape.db")
    report = await recover(store)
    assert list(report.read_back.values()) == [2]
    assert not report.broken
    first, *back = await store.turns("s") or []
    assert first.outcome is Outcome.STOP
    for number, found in enumerate(back, 1):
        given = sampled(number)
        assert (found.id, found.seq, found.outcome) == (given.id, number, Outcome.UNDELIVERED)
        assert found.error is not None
        assert "503" in found.error
        assert found.context_digest == b""
        assert found.completion.tolist() == given.completion.tolist()
        assert np.array_equal(found.logprobs, given.logprobs, equal_nan=True)
        assert (found.tools, found.versions) == (given.tools, given.versions)
    with closing(sqlite3.connect(store.path)) as other:
        rows = other.execute("SELECT dtype, shape, data FROM token_arrays WHERE turn_id = 's-2'").fetchall()
    assert rows == [("<i2", "[2,4]", np.ones((2, 4), "<i2").tobytes())]
    assert not there(tmp_path, "*.ndjson*")
    store.close()


async def test_side_file_that_is_read_twice_is_committed_once(tmp_path: Path) -> None:
    side = await put_aside(tmp_path / "tape.db")
    copied = side.read_bytes()
    store = Store(tmp_path / "tape.db")
    await recover(store)
    side.write_bytes(copied)
    report = await recover(store)
    assert list(report.read_back.values()) == [0]
    assert len(await store.turns("s") or []) == 3
    store.close()


async def test_line_that_was_cut_is_told_and_kept_and_takes_no_other_with_it(tmp_path: Path) -> None:
    side = await put_aside(tmp_path / "tape.db")
    whole = side.read_bytes()
    side.write_bytes(whole[: len(whole) - 100])
    store = Store(tmp_path / "tape.db")
    report = await recover(store)
    assert list(report.read_back.values()) == [1]
    assert "line 2" in report.unread[0]
    (kept,) = there(tmp_path, "*.broken")
    assert str(kept) in report.unread[1]
    assert len(kept.read_bytes().splitlines()) == 2
    again = await recover(store)
    assert not again.read_back
    store.close()


async def test_what_not_even_a_side_file_takes_is_named_in_the_log(
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


async def test_backlog_that_is_full_goes_to_the_side_file(tmp_path: Path) -> None:
    store = Store(tmp_path / "tape.db", durability=Durability(patience=0.1, backlog_memory=0))
    await store.commit(sampled(0))
    with locked(tmp_path / "tape.db"):
        with pytest.raises(StoreUnavailable):
            await store.commit(sampled(1))
        (side,) = there(tmp_path, "*.ndjson")
        assert len(side.read_bytes().splitlines()) == 1
        assert not store.backlog
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
    assert "1 of 2 looked at are whole" in "\n".join(report.lines(time.time()))
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
