"""Several servers on one tape: nothing is given twice, nothing is passed over. A file has one."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from tests.postgres import PostgresServer
from tests.server.store.test_store import turn
from tests.server.tapes import write_sessions
from tickertape.server.errors import Conflict
from tickertape.server.store import leases, retention, rollouts, schema, sessions
from tickertape.server.store.filters import SessionFilter
from tickertape.server.store.store import SessionDeleted, Store, StoreError, turns_of
from tickertape.server.trajectories.options import SampleOptions


@pytest.fixture
def replicas(postgres_url: str) -> Iterator[tuple[Store, Store]]:
    """Two servers of one tape."""
    both = Store(postgres_url, serving=True), Store(postgres_url, serving=True)
    yield both
    for store in both:
        store.close()


def started(program: str, *arguments: str) -> "subprocess.Popen[str]":
    """A program that says that it is ready."""
    command = [sys.executable, "-c", program, *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


_TWO = np.arange(2, dtype=np.int32)
_COMMITTER = """
import asyncio, sys
from tests.server.store.test_store import turn
from tickertape.server.store.store import Store

async def main(place, name):
    store = Store(place, serving=True)
    print("ready", flush=True)
    sys.stdin.readline()
    tools = [{"type": "function", "function": {"name": "f"}}]
    for number in range(40):
        turns = [turn(number, session_id, id=f"{name}-{session_id}-{number}-{n}", tools=tools, tools_digest=f"{number}")
                 for session_id in ("a", "b", "c")[:: 1 if name == "x" else -1] for n in range(2)]
        await asyncio.gather(*map(store.commit, turns))
        print(*(f"{each.session_id}:{each.seq}" for each in turns), flush=True)
    store.close()

asyncio.run(main(*sys.argv[1:]))
"""


def test_turns_that_two_servers_commit_have_places_without_gap_each_once(postgres_url: str) -> None:
    processes = [started(_COMMITTER, postgres_url, name) for name in ("x", "y")]
    for process in processes:
        print("go", file=process.stdin, flush=True)
    told = Counter(word for process in processes for word in process.communicate()[0].split())
    assert [process.returncode for process in processes] == [0, 0]
    store = Store(postgres_url)
    for session_id in ("a", "b", "c"):
        found = store.read_now(turns_of, session_id) or []
        assert [each.seq for each in found] == list(range(160))
        assert all(told[f"{session_id}:{each.seq}"] == 1 for each in found), "each place was told once"
    assert told.total() == 480
    store.close()


def test_killed_server_leaves_no_gap_and_all_that_it_acknowledged(postgres_url: str) -> None:
    doomed, other = (started(_COMMITTER, postgres_url, name) for name in ("x", "y"))
    for process in (doomed, other):
        print("go", file=process.stdin, flush=True)
    assert doomed.stdout is not None
    told = [word for _ in range(10) for word in doomed.stdout.readline().split()]
    os.kill(doomed.pid, signal.SIGKILL)
    told += doomed.communicate()[0].split() + other.communicate()[0].split()
    assert other.returncode == 0
    store = Store(postgres_url)
    on_tape = []
    for session_id in ("a", "b", "c"):
        found = store.read_now(turns_of, session_id) or []
        assert [each.seq for each in found] == list(range(len(found)))
        assert store.read_now(sessions.get, session_id).turns == len(found)
        on_tape += [f"{session_id}:{each.seq}" for each in found]
    assert len(told) == len(set(told))
    assert set(told) <= set(on_tape)
    store.close()


def _lease(store: Store, name: str, got: "list[str]", started: threading.Barrier) -> None:
    async def run() -> None:
        started.wait()
        number = 0
        while True:
            number += 1
            taken = await store.write(
                leases.take, f"{name}-{number}", name, SessionFilter(), SampleOptions(), {},
                max_samples=7, max_tokens=40, expires_in=600, now=0,
            )  # fmt: skip
            got.extend(each.id for each in taken.sessions)
            if not taken.sessions and not taken.remaining.available:
                return
            if taken.lease and number % 3 == 0:
                await store.write(leases.ack, taken.lease.id, None, 1)

    asyncio.run(run())


def test_consumers_of_two_servers_never_get_one_session_and_none_is_passed_over(
    replicas: tuple[Store, Store],
) -> None:
    names = [f"s{number}" for number in range(200)]
    asyncio.run(write_sessions(replicas[0], names))
    got: list[list[str]] = [[] for _ in range(4)]
    started = threading.Barrier(4)
    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(_lease, replicas[n % 2], f"c{n}", got[n], started) for n in range(4)]
    for each in running:
        each.result()
    assert sorted(name for some in got for name in some) == sorted(names)


async def test_expired_leases_are_taken_back_once_by_whoever_asks(replicas: tuple[Store, Store]) -> None:
    await write_sessions(replicas[0], [f"s{number}" for number in range(40)])

    async def take(store: Store, name: str, now: float) -> list[str]:
        taken = await store.write(
            leases.take, name, name, SessionFilter(), SampleOptions(), {},
            max_samples=5, max_tokens=10**6, expires_in=1, now=now,
        )  # fmt: skip
        return [each.id for each in taken.sessions]

    for number in range(8):
        assert await take(replicas[0], f"lost-{number}", 0)
    await asyncio.gather(*(take(replicas[n % 2], f"next-{n}", 10) for n in range(8)))
    number = 0
    while await take(replicas[1], f"last-{number}", 10):
        number += 1
    with replicas[0]._database.reading() as connection:
        rows = connection.execute(sa.select(schema.leases)).all()
        held = Counter(connection.scalars(sa.select(schema.sessions.c.lease_id)))
    assert all(row.expired == row.sessions for row in rows if row.id.startswith("lost"))
    assert {row.id: row.sessions for row in rows if not row.expired} == dict(held)
    assert held.total() == 40


async def test_finish_counts_exactly_the_turns_that_are_not_late(replicas: tuple[Store, Store]) -> None:
    here, there = replicas
    names = [f"s{number}" for number in range(12)]
    await write_sessions(here, names, finish=False)

    async def go_on(name: str) -> None:
        for number in range(1, 8):
            await here.commit(turn(number, name, prompt_delta=_TWO, completion=_TWO, versions=[("v1", 2)]))

    async def finish(name: str, after: float) -> None:
        await asyncio.sleep(after)
        await asyncio.gather(there.write(sessions.finish, name, 1.0), here.write(sessions.finish, name, 1.0))

    await asyncio.gather(*map(go_on, names), *(finish(name, 0.004 * n) for n, name in enumerate(names)))
    for name in names:
        record = await there.read(sessions.get, name)
        assert record.turns == 8
        assert record.statistics is not None
        assert record.statistics["sampled_turns"] == 8 - record.late_turns
    with here._database.reading() as connection:
        numbers = sorted(connection.scalars(sa.select(schema.sessions.c.finish_number)))
    assert numbers == list(range(1, 13)), "finished twice at once, numbered once"


async def test_cursor_over_finished_sessions_misses_none(replicas: tuple[Store, Store]) -> None:
    """A number is given while its transaction runs, and seen when that ends: the next one must wait for it."""
    names = [f"s{number}" for number in range(60)]
    await write_sessions(replicas[0], names, finish=False)
    seen: list[str] = []

    async def follow() -> None:
        after = 0
        while len(seen) < len(names):
            page = await replicas[0].read(
                rollouts.select, SessionFilter(), SampleOptions(), after=after, max_samples=1000, max_tokens=10**9
            )
            seen.extend(each.id for each in page.sessions)
            after = page.sessions[-1].number if page.sessions else after

    finishing = [replicas[n % 2].write(sessions.finish, name, 1.0) for n, name in enumerate(names)]
    await asyncio.wait_for(asyncio.gather(follow(), *finishing), 30)
    assert sorted(seen) == sorted(names)


async def test_sessions_that_two_servers_drop_lease_and_finish_at_once_stay_whole(
    replicas: tuple[Store, Store],
) -> None:
    names = [f"s{number}" for number in range(60)]
    await write_sessions(replicas[0], names)

    async def take(store: Store, name: str) -> int:
        taken = await store.write(
            leases.take, name, name, SessionFilter(), SampleOptions(), {},
            max_samples=30, max_tokens=10**6, expires_in=600, now=0,
        )  # fmt: skip
        return len(taken.sessions)

    taken, dropped, more, others = await asyncio.gather(
        take(replicas[0], "a"),
        replicas[1].write(retention.drop, names[::-1]),
        take(replicas[1], "b"),
        replicas[0].write(retention.drop, names),
    )
    assert taken + more + len(dropped) + len(others) <= len(names)
    assert not set(dropped) & set(others)
    with replicas[0]._database.reading() as connection:
        left = connection.execute(sa.select(schema.sessions.c.id, schema.sessions.c.lease_id)).all()
        turns = set(connection.scalars(sa.select(schema.turns.c.session_id)))
    assert len([row for row in left if row.lease_id]) == taken + more, "nothing that is leased was dropped"
    assert turns == {row.id for row in left}


async def test_transactions_that_block_each_other_are_tried_again(replicas: tuple[Store, Store]) -> None:
    await write_sessions(replicas[0], ["a", "b"], finish=False)
    both_hold_one = threading.Barrier(2)
    tries: list[str] = []

    def rename(connection: sa.Connection, order: tuple[str, str]) -> None:
        tries.append(order[0])
        for session_id in order:
            sessions.update(connection, session_id, {"task_id": order[0]})
            if len(tries) <= 2 and session_id == order[0]:
                both_hold_one.wait(10)

    await asyncio.gather(replicas[0].write(rename, ("a", "b")), replicas[1].write(rename, ("b", "a")))
    assert len(tries) == 3
    records = await replicas[0].read(sessions.page)
    assert len({record.task_id for record in records}) == 1


async def test_news_are_what_other_servers_have_committed(replicas: tuple[Store, Store]) -> None:
    here, there = replicas
    assert here.is_shared
    assert await here.news("s", -1) == []
    await here.commit(turn(0))
    await there.commit(turn(1, parent_id="s-0"), "options")
    assert [(each.id, each.seq, digest) for each, digest in await here.news("s", 0)] == [("s-1", 1, "options")]
    assert await here.news("s", 1) == []
    await there.write(sessions.finish, "s", 1.0)
    assert not here.is_closed("s")
    assert await here.news("s", 1) == []
    assert here.is_closed("s")
    await there.write(sessions.delete, "s")
    with pytest.raises(SessionDeleted, match="'s' was deleted"):
        await here.news("s", 1)
    assert not here.is_closed("s"), "its id may be used anew"
    with pytest.raises(SessionDeleted):
        await here.commit(turn(2, parent_id="s-1"))
    await here.write(sessions.create, "new", 1.0, {})
    with pytest.raises(Conflict, match="already"):
        await there.write(sessions.create, "new", 1.0, {})


async def test_connections_that_the_database_has_closed_are_made_anew(
    replicas: tuple[Store, Store], postgres_server: PostgresServer
) -> None:
    here, there = replicas
    await here.commit(turn(0))
    assert len(await there.news("s", -1)) == 1
    postgres_server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 't%'")
    await here.commit(turn(1))
    assert [each.seq for each, _ in await there.news("s", 0)] == [1]


def test_servers_that_start_at_once_on_an_empty_database_all_come_up(postgres_url: str) -> None:
    started = threading.Barrier(5)

    def start(_: int) -> str:
        started.wait()
        store = Store(postgres_url, serving=True)
        try:
            return store.read_now(lambda connection: connection.scalars(sa.text("SELECT * FROM alembic_version")).one())
        finally:
            store.close()

    with ThreadPoolExecutor(5) as threads:
        assert list(threads.map(start, range(5))) == [str(schema.SCHEMA_VERSION)] * 5


_SERVER = """
import sys
from tickertape.server.store.store import Store
store = Store(sys.argv[1], serving=True)
print("ready", flush=True)
sys.stdin.readline()
"""


def test_file_has_one_server_and_readers_beside_it_until_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "tape.db"
    process = started(_SERVER, str(path))
    (tmp_path / "linked.db").symlink_to(path)
    for name in (path, tmp_path / "linked.db", f"sqlite:///{path}"):
        with pytest.raises(StoreError, match="another server has"):
            Store(name, serving=True)
    reader = Store(path)
    assert not reader.is_shared
    reader.close()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    Store(path, serving=True).close()
    Store(path, serving=True).close()


def test_server_makes_no_folder_for_its_tape(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no folder"):
        Store(tmp_path / "mistyped" / "tape.db", serving=True)
    assert list(tmp_path.iterdir()) == []
