"""DURABLE, for a tape whose write-ahead log is deleted under its server: what was acknowledged survives a kill."""

import asyncio
import logging
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.server.conftest import until
from tests.server.store.test_store import turn
from tickertape.server.store.database import StoreUnavailable
from tickertape.server.store.durability import Durability
from tickertape.server.store.store import Store

IMPATIENT = Durability(patience=0.05)


def killed(tape: Path) -> list[str]:
    """The turns that a server finds which starts on the files that are there, as after kill -9."""
    after = tape.parent / "after"
    after.mkdir()
    for path in tape.parent.glob("tape.db*"):
        if not path.name.endswith("-server"):
            shutil.copy(path, after)
    with closing(sqlite3.connect(after / "tape.db")) as found:
        return [name for (name,) in found.execute("SELECT id FROM turns ORDER BY seq")]


@pytest.mark.parametrize("deleted", [("-wal",), ("-shm",), ("-wal", "-shm")], ids=" and ".join)
def test_a_log_that_is_deleted_takes_no_turn_with_it(
    tmp_path: Path, deleted: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    tape = tmp_path / "tape.db"
    store = Store(tape, serving=True, durability=IMPATIENT)
    for number in range(3):
        asyncio.run(store.commit(turn(number)))
    for ending in deleted:
        Path(f"{tape}{ending}").unlink()
    with caplog.at_level(logging.WARNING, "tickertape"):
        for number in range(3, 6):
            asyncio.run(store.commit(turn(number)))
    assert "is gone: all turns were written into the tape itself, and it is begun anew" in caplog.text
    assert caplog.text.count("begun anew") == 1
    assert killed(tape) == [f"s-{number}" for number in range(6)]
    assert len(asyncio.run(store.turns("s")) or []) == 6
    store.close()
    assert not Path(f"{tape}-wal").exists(), "a server that ends in good order leaves none"


def test_a_log_that_is_deleted_is_noticed_by_whoever_reads(tmp_path: Path) -> None:
    """An idle server is looked at by readiness probes and metrics, not only by writers."""
    tape = tmp_path / "tape.db"
    store = Store(tape, serving=True, durability=IMPATIENT)
    asyncio.run(store.commit(turn(0)))
    Path(f"{tape}-wal").unlink()
    assert len(asyncio.run(store.turns("s")) or []) == 1
    assert killed(tape) == ["s-0"]
    store.close()


def test_another_log_in_its_place_is_not_written(tmp_path: Path) -> None:
    """It may belong to another tape. Nothing is put into either, and no more is acknowledged."""
    tape = tmp_path / "tape.db"
    store = Store(tape, serving=True, durability=IMPATIENT)
    asyncio.run(store.commit(turn(0)))
    wal = Path(f"{tape}-wal")
    kept = wal.rename(tmp_path / "kept")
    wal.write_bytes(b"another tape's")
    with pytest.raises(StoreUnavailable, match=r"tape\.db-wal.* was replaced by another file"):
        asyncio.run(store.commit(turn(1)))
    assert wal.read_bytes() == b"another tape's"
    kept.rename(wal)
    until(lambda: not store.standing.failing)
    asyncio.run(store.commit(turn(2)))
    assert "s-2" in killed(tape)
    store.close()
