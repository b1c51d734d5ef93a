"""DURABLE on PostgreSQL: connections that are lost, a database that takes none for a while."""

import asyncio

import pytest

from tests.postgres import PostgresServer
from tests.server.conftest import until
from tests.server.store.test_store import turn
from tickertape.server.store.database import StoreUnavailable
from tickertape.server.store.durability import Durability, Sync
from tickertape.server.store.store import Store
from tickertape.server.trajectories.turn import Outcome


def cut_off(server: PostgresServer) -> None:
    server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 't%'")


async def test_lost_connections_are_made_anew_and_nobody_hears_of_it(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    store = Store(postgres_url)
    for number in range(3):
        await store.commit(turn(number))
        cut_off(postgres_server)
    assert [found.seq for found in await store.turns("s") or []] == [0, 1, 2]
    store.close()


async def test_database_that_takes_no_connections_is_a_failing_tape_until_it_does(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    store = Store(postgres_url, durability=Durability(patience=0.3))
    await store.commit(turn(0))
    name = postgres_url.split("@/")[1].split("?")[0]
    postgres_server.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    cut_off(postgres_server)
    results = await asyncio.gather(*(store.commit(turn(n)) for n in (1, 2)), return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailable] * 2
    assert store.standing.failing
    with pytest.raises(StoreUnavailable):
        store.standing.check()
    postgres_server.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    await asyncio.to_thread(until, lambda: not store.standing.failing, 3)
    found = await store.turns("s") or []
    assert [each.id for each in found] == ["s-0", "s-1", "s-2"]
    assert [each.outcome for each in found] == [Outcome.STOP, Outcome.UNDELIVERED, Outcome.UNDELIVERED]
    store.close()


@pytest.mark.parametrize(("sync", "level"), [(Sync.FULL, "on"), (Sync.NORMAL, "off")])
async def test_sync_level_is_the_one_that_was_asked_for(postgres_url: str, sync: Sync, level: str) -> None:
    store = Store(postgres_url, durability=Durability(sync=sync))

    def ask(connection: object) -> object:
        return connection.exec_driver_sql("SHOW synchronous_commit").scalar()  # type: ignore[attr-defined]

    assert await store.write(ask) == level
    store.close()
