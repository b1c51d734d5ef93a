"""One policy for all servers of a tape: what a trainer tells one of them, all do, and after a restart it still holds.

Orders are on tape. The server that gets one does it and waits until every other one that is alive says that it has,
too: only then does no generation sample from the weights.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeAlias

from tickertape.server.errors import Conflict
from tickertape.server.policy.gate import Pausing, PolicyGate
from tickertape.server.store import policies, runs
from tickertape.server.store.policies import Order, ReplicaProgress
from tickertape.server.store.store import Store, StoreError

#: Seconds between two looks at the tape for another server's order.
_EVERY = 0.5
#: Seconds that the others get to hear of an order, beside what the order itself may take.
_HEARING = 5.0

_log = logging.getLogger("tickertape")

Told: TypeAlias = dict[str, str]


class SharedPolicy:
    """The policy of this server, as the tape has it.

    Args:
        policy: this server's gate.
        store: the tape, whose run has begun.
    """

    def __init__(self, policy: PolicyGate, store: Store) -> None:
        self.policy = policy
        self._store = store
        self._numbering = asyncio.Lock()
        self._followed = 0

    async def set_version(self, version: str) -> None:
        """See :meth:`PolicyGate.set_version`; raises as :meth:`resume`."""

        async def do() -> Told:
            self.policy.set_version(version)
            return {}

        await self._order(version, self.policy.paused, _HEARING, do)

    async def pause(self, mode: Pausing, seconds: float) -> Told:
        """See :meth:`PolicyGate.pause`; an engine that every server has paused is paused.

        Raises:
            Conflict: as there; or another server has not paused.
            StoreError: the order cannot be put on tape: nothing was paused.
        """
        return await self._order(self.policy.version, mode, seconds, partial(self.policy.pause, mode, seconds))

    async def resume(self, version: str | None) -> Told:
        """See :meth:`PolicyGate.resume`.

        Raises:
            Conflict: another server has not heard of it, and may still be paused.
            StoreError: the order cannot be put on tape: nothing was resumed.
        """
        wanted = version if version is not None else self.policy.version
        return await self._order(wanted, None, _HEARING, partial(self.policy.resume, version))

    async def _order(
        self, version: str | None, paused: Pausing | None, seconds: float, do: Callable[[], Awaitable[Told]]
    ) -> Told:
        deadline = time.monotonic() + seconds + _HEARING
        mode = None if paused is None else paused.value
        async with self._numbering:  # whoever follows orders must not take this one for another server's
            number = await self._store.write(policies.put, version, mode, seconds, time.time())
            self._followed = number
        told = await self._follow(number, do)
        return await self._everybody(number, told, deadline)

    async def _follow(self, number: int, do: Callable[[], Awaitable[Told]]) -> Told:
        """Does what an order says, and says so on tape."""
        error: str | None = None
        told: Told = {}
        try:
            told = await do()
        except Conflict as conflict:
            error = conflict.message
            raise
        finally:
            if self._store.run_id is not None:
                await self._store.write(policies.note_followed, self._store.run_id, number, error, told)
        return told

    async def _everybody(self, number: int, told: Told, deadline: float) -> Told:
        """Waits for the other servers."""
        if not self._store.is_shared or self._store.run_id is None:
            return told
        while True:
            alive_since = time.time() - runs.DEAD
            standings = await self._store.read(policies.others, self._store.run_id, alive_since)
            behind = [standing for standing in standings if standing.number < number]
            if not behind:
                break
            if time.monotonic() > deadline:
                raise Conflict(
                    f"{_names(behind)} did not follow in time: new generations wait where they have; ask again",
                    code="replica_behind",
                )
            await asyncio.sleep(_EVERY / 5)
        if failed := [standing for standing in standings if standing.number == number and standing.error]:
            said = "; ".join(f"{_names([standing])}: {standing.error}" for standing in failed)
            raise Conflict(said, code="still_running")
        return _common(told, standings)

    # What others order.

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Takes up what the tape has, and while the block runs what other servers order.

        Raises:
            StoreError: the tape cannot be read.
        """
        if (order := await self._news()) is not None:
            await self._follow_another(order)
        if not self._store.is_shared:
            yield
            return
        following = asyncio.create_task(self._keep_following())
        try:
            yield
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _keep_following(self) -> None:
        """A newer order breaks off one that is still waited for."""
        doing: asyncio.Task[None] | None = None
        try:
            while True:
                await asyncio.sleep(_EVERY)
                try:
                    order = await self._news()
                except StoreError as error:
                    _log.warning("the policy of other servers is not known: %s", error)
                    continue
                if order is None:
                    continue
                if doing is not None:
                    doing.cancel()
                    await asyncio.gather(doing, return_exceptions=True)
                doing = asyncio.create_task(self._follow_another(order))
        finally:
            if doing is not None:
                doing.cancel()
                await asyncio.gather(doing, return_exceptions=True)

    async def _news(self) -> Order | None:
        """An order that this server has not followed; it is taken for followed from here on."""
        async with self._numbering:
            order = await self._store.read(policies.latest)
            if order is None or order.number <= self._followed:
                return None
            self._followed = order.number
            return order

    async def _follow_another(self, order: Order) -> None:
        _log.info("the policy is set to version %s, %s", order.version, order.paused or "not paused")
        try:
            await self._follow(order.number, partial(self._do, order))
        except (Conflict, StoreError) as error:
            _log.warning("the policy's order %d is not done: %s", order.number, error)

    async def _do(self, order: Order) -> Told:
        if order.paused is not None:
            if order.version is not None and order.version != self.policy.version:
                self.policy.set_version(order.version)
            return await self.policy.pause(Pausing(order.paused), order.timeout)
        if self.policy.paused is not None:
            return await self.policy.resume(order.version)
        if order.version is not None and order.version != self.policy.version:
            self.policy.set_version(order.version)
        return {}


def _common(told: Told, standings: list[ReplicaProgress]) -> Told:
    """Returns the engines' answers; where servers got different ones, what does not sound like success."""
    for standing in standings:
        for engine, said in standing.told.items():
            if told.get(engine) in (None, "paused", "resumed"):
                told[engine] = said
    return told


def _names(standings: list[ReplicaProgress]) -> str:
    return ", ".join(f"the server {standing.pid} on {standing.host}" for standing in standings)
