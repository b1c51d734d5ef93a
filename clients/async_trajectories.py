"""The trainer's client for asyncio: that of ``trajectories``, awaited."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx
import numpy.typing as npt

from tickertape.clients import calls
from tickertape.clients.calls import (
    ApiCall,
    Lease,
    LeaseState,
    Rewards,
    SampleOptions,
    SamplePage,
    SampleQuery,
    SessionFields,
    SessionFilter,
    Summary,
)
from tickertape.clients.open_session import AsyncOpenSession
from tickertape.clients.samples import Sample
from tickertape.clients.tape import Session, Turn
from tickertape.clients.trajectories import MOST_TOKENS, POLL_SECONDS, Addresses

T = TypeVar("T")


class AsyncTrajectoryClient(Addresses):
    """:class:`TrajectoryClient` for asyncio: the same methods, awaited. Leave a loop over :meth:`leases` early only
    inside ``contextlib.aclosing``, which releases the lease at once."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(base_url)
        self._http = httpx.AsyncClient(
            base_url=self.base_url, timeout=timeout, transport=transport, headers=calls.credentials(api_key)
        )

    # Sessions.

    def session(
        self, session_id: str | None = None, *, key_expires_in: float = calls.KEY_LIFE, **fields: Unpack[SessionFields]
    ) -> AsyncOpenSession:
        """See :meth:`TrajectoryClient.session`."""
        return AsyncOpenSession(self._do, self.base_url, session_id, fields, key_expires_in)

    async def create_session(self, session_id: str | None = None, **fields: Unpack[SessionFields]) -> Session:
        """See :meth:`TrajectoryClient.create_session`."""
        return await self._do(calls.create_session(session_id, fields))

    async def agent_key(self, session_id: str, *, expires_in: float = calls.KEY_LIFE) -> str:
        """See :meth:`TrajectoryClient.agent_key`."""
        return await self._do(calls.session_key(session_id, expires_in))

    async def sessions(self, *, page_size: int = 100, **wanted: Unpack[SessionFilter]) -> AsyncIterator[Session]:
        """See :meth:`TrajectoryClient.sessions`."""
        after: str | None = None
        while True:
            page, after = await self._do(calls.list_sessions(wanted, page_size, after))
            for each in page:
                yield each
            if after is None:
                return

    async def get_session(self, session_id: str) -> Session:
        """See :meth:`TrajectoryClient.get_session`."""
        return await self._do(calls.get_session(session_id))

    async def update_session(self, session_id: str, **fields: Unpack[SessionFields]) -> Session:
        """See :meth:`TrajectoryClient.update_session`."""
        return await self._do(calls.update_session(session_id, fields))

    async def finish(self, session_id: str) -> Session:
        """See :meth:`TrajectoryClient.finish`."""
        return await self._do(calls.finish_session(session_id))

    async def discard(self, session_id: str) -> Session:
        """See :meth:`TrajectoryClient.discard`."""
        return await self._do(calls.discard_session(session_id))

    async def delete(self, session_id: str) -> None:
        """See :meth:`TrajectoryClient.delete`."""
        await self._do(calls.delete_session(session_id))

    async def turns(self, session_id: str, *, after: int = -1, limit: int = -1) -> list[Turn]:
        """See :meth:`TrajectoryClient.turns`."""
        return await self._do(calls.list_turns(session_id, after, limit))

    async def array(self, session_id: str, turn_id: str, name: str) -> npt.NDArray[Any]:
        """See :meth:`TrajectoryClient.array`."""
        return await self._do(calls.get_array(session_id, turn_id, name))

    async def reward(
        self,
        session_id: str,
        reward: float | None = calls.UNSET,
        *,
        turns: Mapping[str, float | None] | None = None,
        tokens: Mapping[str, Any] | None = None,
    ) -> Rewards:
        """See :meth:`TrajectoryClient.reward`."""
        return await self._do(calls.set_rewards(session_id, reward, turns, tokens))

    async def rewards(self, session_id: str) -> Rewards:
        """See :meth:`TrajectoryClient.rewards`."""
        return await self._do(calls.get_rewards(session_id))

    # Samples.

    async def samples(self, session_id: str, **options: Unpack[SampleOptions]) -> list[Sample]:
        """See :meth:`TrajectoryClient.samples`."""
        return await self._do(calls.session_samples(session_id, options))

    async def sample_pages(
        self, *, after: str = "0", limit: int = 1000, max_tokens: int = MOST_TOKENS, **wanted: Unpack[SampleQuery]
    ) -> AsyncIterator[SamplePage]:
        """See :meth:`TrajectoryClient.sample_pages`."""
        while True:
            page = await self._do(calls.sample_page(wanted, limit, max_tokens, after))
            if page.next != after:
                yield page
            after = page.next
            if not page.more:
                return

    async def finished_samples(self, *, page_size: int = 1000, **wanted: Unpack[SampleQuery]) -> AsyncIterator[Sample]:
        """See :meth:`TrajectoryClient.finished_samples`."""
        async for page in self.sample_pages(limit=page_size, **wanted):
            for each in page.samples:
                yield each

    async def summary(self, *, after: str = "0", **wanted: Unpack[SessionFilter]) -> Summary:
        """See :meth:`TrajectoryClient.summary`."""
        return await self._do(calls.summarise(wanted, after))

    # Leases.

    async def lease(
        self,
        consumer: str,
        *,
        limit: int = 64,
        max_tokens: int = MOST_TOKENS,
        expires_in: float = 600,
        **wanted: Unpack[SampleQuery],
    ) -> Lease:
        """See :meth:`TrajectoryClient.lease`."""
        return await self._do(calls.take_lease(consumer, wanted, limit, max_tokens, expires_in))

    async def leases(
        self,
        consumer: str,
        *,
        limit: int = 64,
        max_tokens: int = MOST_TOKENS,
        expires_in: float = 600,
        wait: float = 0,
        **wanted: Unpack[SampleQuery],
    ) -> AsyncGenerator[Lease, None]:
        """See :meth:`TrajectoryClient.leases`."""
        patience = time.monotonic() + wait
        while True:
            lease = await self.lease(consumer, limit=limit, max_tokens=max_tokens, expires_in=expires_in, **wanted)
            if lease.id is None:
                if time.monotonic() >= patience:
                    return
                await asyncio.sleep(min(POLL_SECONDS, wait))
                continue
            try:
                yield lease
            except BaseException:
                await self.release(lease.id)
                raise
            await self.ack(lease.id)
            patience = time.monotonic() + wait

    async def ack(self, lease_id: str, sessions: Sequence[str] | None = None) -> LeaseState:
        """See :meth:`TrajectoryClient.ack`."""
        return await self._do(calls.ack_lease(lease_id, sessions))

    async def release(self, lease_id: str, sessions: Sequence[str] | None = None) -> LeaseState:
        """See :meth:`TrajectoryClient.release`."""
        return await self._do(calls.release_lease(lease_id, sessions))

    async def extend(self, lease_id: str, expires_in: float) -> LeaseState:
        """See :meth:`TrajectoryClient.extend`."""
        return await self._do(calls.extend_lease(lease_id, expires_in))

    async def lease_state(self, lease_id: str) -> LeaseState:
        """See :meth:`TrajectoryClient.lease_state`."""
        return await self._do(calls.lease_state(lease_id))

    async def leased_samples(self, lease_id: str) -> Lease:
        """See :meth:`TrajectoryClient.leased_samples`."""
        return await self._do(calls.leased_samples(lease_id))

    async def retain(
        self,
        *,
        keep_seconds: float | None = None,
        max_tokens: int | None = None,
        max_bytes: int | None = None,
        finish_idle_seconds: float | None = None,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """See :meth:`TrajectoryClient.retain`."""
        limits = {
            "keep_seconds": keep_seconds,
            "max_tokens": max_tokens,
            "max_bytes": max_bytes,
            "finish_idle_seconds": finish_idle_seconds,
            "dry_run": dry_run,
        }
        return await self._do(calls.retain(limits))

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _do(self, call: ApiCall[T]) -> T:
        request = call.request(self._http)
        try:
            response = await self._http.send(request)
        except httpx.TransportError as error:
            raise calls.unreached(error, request) from error
        return call.answer(response)
