"""A session has one live tree at a time, however its requests overlap."""

import asyncio
from typing import cast

from tickertape.server.store.store import Store
from tickertape.server.trajectories.tree import SessionTree
from tickertape.server.trajectories.turn import Turn
from tickertape.server.turns.sessions import Sessions


class SlowStore:
    """Gives a tree of its own for each load, when it is let."""

    is_shared = False

    def __init__(self) -> None:
        self.loads: list[asyncio.Future[SessionTree]] = []

    async def load_tree(self, session_id: str) -> SessionTree:
        self.loads.append(asyncio.get_running_loop().create_future())
        return await self.loads[-1]


async def asked_at_once(store: SlowStore, requests: int) -> list[SessionTree]:
    """What requests get that come while the first one's load runs."""
    sessions = Sessions(cast("Store", store))
    waiting = [asyncio.ensure_future(sessions.get("s")) for _ in range(requests)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    store.loads[0].set_result(SessionTree("s"))
    return await asyncio.gather(*waiting)


async def test_requests_that_come_while_a_session_loads_share_its_tree() -> None:
    store = SlowStore()
    trees = await asked_at_once(store, 5)
    assert len(store.loads) == 1
    assert len({id(tree) for tree in trees}) == 1


async def test_a_load_that_ends_later_does_not_replace_an_empty_tree_in_use() -> None:
    store = SlowStore()
    sessions = Sessions(cast("Store", store))
    late = asyncio.ensure_future(sessions.get("s"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    in_use = sessions.create("s")
    store.loads[0].set_result(SessionTree("s"))
    assert await late is in_use
    assert await sessions.get("s") is in_use


class SharedStore(SlowStore):
    """Another server may have written meanwhile: asked for news, it counts."""

    is_shared = True
    asked = 0

    async def news(self, _session_id: str, _after: int) -> list[tuple[Turn, str]]:
        self.asked += 1
        return []


async def test_a_request_that_joins_a_load_looks_for_what_came_on_tape_since_that_began() -> None:
    store = SharedStore()
    trees = await asked_at_once(store, 3)
    assert (len(store.loads), store.asked) == (1, 2)
    assert len({id(tree) for tree in trees}) == 1
