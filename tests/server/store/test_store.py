"""DURABLE: what was acknowledged is on tape; nothing that fails takes anything else with it."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.failing_stores import FakeWrites
from tickertape.server.errors import NotFound
from tickertape.server.store import schema, sessions
from tickertape.server.store.database import Database
from tickertape.server.store.store import Store, StoreError
from tickertape.server.store.tape_health import TapeHealth
from tickertape.server.store.writer import GroupWriter
from tickertape.server.trajectories.turn import Outcome, Turn


def turn(number: int, session_id: str = "s", **fields: object) -> Turn:
    values: dict[str, object] = {
        "id": f"{session_id}-{number}",
        "session_id": session_id,
        "seq": number,
        "created_at": float(number),
        "dialect": "chat",
        "model": "m",
        "outcome": Outcome.STOP,
    }
    return Turn(**(values | fields))  # type: ignore[arg-type]


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    store = Store(place)
    yield store
    store.close()


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tokens=st.lists(st.integers(0, 2**31 - 1), max_size=50),
    logprobs=st.lists(st.one_of(st.floats(width=32), st.just(float("nan"))), max_size=50),
    text=st.text(),
    stop=st.one_of(st.none(), st.integers(0, 2**31), st.text()),
)
def test_turn_comes_back_as_it_went_in(
    store: Store, tokens: list[int], logprobs: list[float], text: str, stop: int | str | None
) -> None:
    given_turn = turn(
        0,
        uuid.uuid4().hex,
        prompt_delta=np.array(tokens, np.int32),
        completion=np.array(tokens[::-1], np.int32),
        logprobs=np.array(logprobs, np.float32),
        versions=[(None, 2), ("v1", 3)],
        prompt_spans=[(-1, 0, 3), (0, 1, 2)],
        messages=[{"role": "user", "content": text.encode("utf-8", "ignore").decode()}],
        tools=[{"type": "function", "function": {"name": "f"}}],
        tools_digest="d",
        stop_reason=stop if not isinstance(stop, str) else stop.encode("utf-8", "ignore").decode(),
        error=None,
        context_digest=b"\x00\xff",
    )

    async def round_trip() -> list[Turn]:
        await store.commit(given_turn)
        (found,) = await store.turns(given_turn.session_id) or []
        return [found]

    (found,) = asyncio.run(round_trip())
    for name in given_turn.__dataclass_fields__:
        left, right = getattr(given_turn, name), getattr(found, name)
        if isinstance(left, np.ndarray):
            assert np.array_equal(left, right, equal_nan=left.dtype == np.float32)
        else:
            assert left == right, name


async def test_unknown_session_is_none_and_not_empty(store: Store) -> None:
    assert await store.turns("nobody") is None
    with pytest.raises(NotFound, match="nobody"):
        await store.read(sessions.get, "nobody")
    await store.commit(turn(0))
    assert await store.turns("s", after=0) == []


async def test_sessions_page_in_order_of_creation(store: Store) -> None:
    for number in range(7):
        await store.commit(turn(0, f"s{number}", created_at=float(number // 3)))
    first = await store.read(sessions.page, limit=4)
    second = await store.read(sessions.page, after=(first[-1].created_at, first[-1].id), limit=4)
    assert [session.id for session in first + second] == [f"s{number}" for number in range(7)]


async def test_turn_that_cannot_be_written_fails_alone(store: Store) -> None:
    await store.commit(turn(0))
    results = await asyncio.gather(*(store.commit(turn(n)) for n in (1, 0, 2)), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), StoreError, type(None)]
    assert [found.seq for found in await store.turns("s") or []] == [0, 1, 2]


async def test_writer_gathers_what_comes_while_it_commits() -> None:
    batches: list[int] = []

    class Slow(FakeWrites):
        def write(self, items: Sequence[int], *, again: bool) -> None:
            time.sleep(0.02)
            batches.append(len(items))

    writer = GroupWriter(Slow(), TapeHealth())
    await asyncio.gather(*(writer.put(number) for number in range(100)))
    writer.close()
    assert sum(batches) == 100
    assert len(batches) <= 3


async def test_cancelled_caller_does_not_take_back_its_turn(place: str) -> None:
    store = Store(place)
    committing = asyncio.ensure_future(store.commit(turn(0)))
    await asyncio.sleep(0)
    committing.cancel()
    await asyncio.gather(committing, return_exceptions=True)
    store.close()
    again = Store(place)
    assert len(await again.turns("s") or []) == 1
    again.close()


def test_tape_of_another_schema_version_is_refused(place: str) -> None:
    Store(place).close()
    database = Database(place)
    with database.writing() as connection:
        connection.execute(schema.tape.update().values(schema_version=99))
    database.close()
    with pytest.raises(StoreError, match="schema version 99"):
        Store(place)


def test_file_that_is_no_tape_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tape.db").write_text("not a database" * 100)
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(tmp_path / "tape.db")


_COMMITTER = """
import asyncio, sys
from tests.server.store.test_store import turn
from tickertape.server.store.database import Database
from tickertape.server.store.store import Store

async def main():
    store = Store(sys.argv[1])
    for number in range(100_000):
        await store.commit(turn(number))
        print(number, flush=True)

asyncio.run(main())
"""


def test_kill_9_loses_no_acknowledged_turn(place: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", _COMMITTER, place], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(50):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    acknowledged = 50 + len(process.stdout.read().split("\n")[:-1])
    process.wait()
    process.stdout.close()

    async def count() -> int:
        store = Store(place)
        found = await store.turns("s") or []
        store.close()
        assert [each.seq for each in found] == list(range(len(found)))
        return len(found)

    assert asyncio.run(count()) >= acknowledged
