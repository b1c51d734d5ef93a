"""The trainer's client of a Tickertape server. What is sent and what comes back is in ``calls``."""

import time
from collections.abc import Iterator, Mapping, Sequence
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
from tickertape.clients.open_session import OpenSession
from tickertape.clients.samples import Sample
from tickertape.clients.tape import Session, Turn

T = TypeVar("T")

#: Of one page of samples.
MOST_TOKENS = 8_000_000
POLL_SECONDS = 0.5


class Addresses:
    """The addresses that both clients share."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url.rstrip("/")

    def agent_base_url(self, session_id: str) -> str:
        """Returns what an agent sets as its OpenAI ``base_url`` so that its calls land in this session."""
        return f"{self.base_url}{calls.session_path(session_id)}/v1"


class TrajectoryClient(Addresses):
    """Makes sessions and reads the tape.

    >>> with TrajectoryClient("http://127.0.0.1:8700") as tape:
    ...     with tape.session(group_id="question-7") as session:
    ...         session.reward(run_agent(session.base_url))
    ...     for lease in tape.leases("trainer-0", limit=64):
    ...         train(lease.samples)

    Args:
        base_url: of the server, without ``/v1``.
        api_key: a trainer's or an admin's; ``TICKERTAPE_API_KEY`` of the environment if not given.
        timeout: seconds for one answer.
        transport: another httpx transport, for tests.

    Every method raises :class:`tickertape.clients.TrajectoryError` for an error answer and ``httpx.HTTPError``
    where there is none.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(base_url)
        self._http = httpx.Client(
            base_url=self.base_url, timeout=timeout, transport=transport, headers=calls.credentials(api_key)
        )

    # Sessions.

    def session(
        self, session_id: str | None = None, *, key_expires_in: float = calls.KEY_LIFE, **fields: Unpack[SessionFields]
    ) -> OpenSession:
        """A new session for a ``with`` block: finished at its end, discarded if it raises.

        Args:
            session_id: its id; made up by the server if not given.
            key_expires_in: seconds for which its ``agent_key`` is good.
            fields: ``task_id``, ``group_id``, ``policy_version``, ``metadata``, ``reward``.
        """
        return OpenSession(self._do, self.base_url, session_id, fields, key_expires_in)

    def create_session(self, session_id: str | None = None, **fields: Unpack[SessionFields]) -> Session:
        """A new session, which stays open until it is finished, discarded, or idle for too long."""
        return self._do(calls.create_session(session_id, fields))

    def agent_key(self, session_id: str, *, expires_in: float = calls.KEY_LIFE) -> str:
        """A key for an open session's agent, good for so many seconds: it reaches this session's calls of the model and
        nothing else, and says by itself which session they are of."""
        return self._do(calls.session_key(session_id, expires_in))

    def sessions(self, *, page_size: int = 100, **wanted: Unpack[SessionFilter]) -> Iterator[Session]:
        """Sessions in order of creation; pages are fetched as they are needed."""
        after: str | None = None
        while True:
            page, after = self._do(calls.list_sessions(wanted, page_size, after))
            yield from page
            if after is None:
                return

    def get_session(self, session_id: str) -> Session:
        """One session, counted up."""
        return self._do(calls.get_session(session_id))

    def update_session(self, session_id: str, **fields: Unpack[SessionFields]) -> Session:
        """Changes the fields that are given. Metadata is replaced as a whole."""
        return self._do(calls.update_session(session_id, fields))

    def finish(self, session_id: str) -> Session:
        """Makes a session's samples ready; its agent is refused from now on."""
        return self._do(calls.finish_session(session_id))

    def discard(self, session_id: str) -> Session:
        """Takes a session out of the samples; it stays on tape."""
        return self._do(calls.discard_session(session_id))

    def delete(self, session_id: str) -> None:
        """Takes a session that is finished or discarded off the tape."""
        self._do(calls.delete_session(session_id))

    def turns(self, session_id: str, *, after: int = -1, limit: int = -1) -> list[Turn]:
        """A session's turns in order of ``seq``: those after ``after``, at most ``limit`` (-1: all)."""
        return self._do(calls.list_turns(session_id, after, limit))

    def array(self, session_id: str, turn_id: str, name: str) -> npt.NDArray[Any]:
        """Per-token extras of a turn, such as ``routed_experts``; its ``arrays`` names them, and ``docs/samples.md``
        says which tokens the rows are of."""
        return self._do(calls.get_array(session_id, turn_id, name))

    def reward(
        self,
        session_id: str,
        reward: float | None = calls.UNSET,
        *,
        turns: Mapping[str, float | None] | None = None,
        tokens: Mapping[str, Any] | None = None,
    ) -> Rewards:
        """Sets rewards, of a session, of turns by turn id, of their tokens by turn id; ``None`` takes one back, what is
        left out stays as it is. Returns all that are on tape."""
        return self._do(calls.set_rewards(session_id, reward, turns, tokens))

    def rewards(self, session_id: str) -> Rewards:
        """The rewards on tape."""
        return self._do(calls.get_rewards(session_id))

    # Samples.

    def samples(self, session_id: str, **options: Unpack[SampleOptions]) -> list[Sample]:
        """A session's training samples, finished or not; each sampled token is trained in exactly one of them."""
        return self._do(calls.session_samples(session_id, options))

    def sample_pages(
        self, *, after: str = "0", limit: int = 1000, max_tokens: int = MOST_TOKENS, **wanted: Unpack[SampleQuery]
    ) -> Iterator[SamplePage]:
        """Samples of finished sessions in the order of finishing, page by page. Keep a page's ``next`` to go on from
        there another day.

        Args:
            after: where to begin: ``next`` of an earlier page.
            limit: samples of a page; a session is never divided.
            max_tokens: tokens of a page.
            wanted: which sessions, and how samples are made.
        """
        while True:
            page = self._do(calls.sample_page(wanted, limit, max_tokens, after))
            if page.next != after:
                yield page
            after = page.next
            if not page.more:
                return

    def finished_samples(self, *, page_size: int = 1000, **wanted: Unpack[SampleQuery]) -> Iterator[Sample]:
        """All samples of finished sessions; pages are fetched as they are needed."""
        for page in self.sample_pages(limit=page_size, **wanted):
            yield from page.samples

    def summary(self, *, after: str = "0", **wanted: Unpack[SessionFilter]) -> Summary:
        """Returns the totals of finished sessions, and what samples of one turn each would hold."""
        return self._do(calls.summarise(wanted, after))

    # Leases.

    def lease(
        self,
        consumer: str,
        *,
        limit: int = 64,
        max_tokens: int = MOST_TOKENS,
        expires_in: float = 600,
        **wanted: Unpack[SampleQuery],
    ) -> Lease:
        """Leases samples that no other consumer gets until they are released or the lease expires.

        Args:
            consumer: who asks.
            limit: samples at most; a session is never divided, so that one with more is leased alone.
            max_tokens: tokens at most, likewise.
            expires_in: seconds.
            wanted: which sessions, and how samples are made.
        """
        return self._do(calls.take_lease(consumer, wanted, limit, max_tokens, expires_in))

    def leases(
        self,
        consumer: str,
        *,
        limit: int = 64,
        max_tokens: int = MOST_TOKENS,
        expires_in: float = 600,
        wait: float = 0,
        **wanted: Unpack[SampleQuery],
    ) -> Iterator[Lease]:
        """One lease after another. Asking for the next acks the last; leaving the loop, by ``break`` or an exception,
        releases it: call :meth:`ack` first if you are done with it.

        Args:
            consumer, limit, max_tokens, expires_in, wanted: see :meth:`lease`.
            wait: seconds to wait for samples when there are none; then it ends.
        """
        patience = time.monotonic() + wait
        while True:
            lease = self.lease(consumer, limit=limit, max_tokens=max_tokens, expires_in=expires_in, **wanted)
            if lease.id is None:
                if time.monotonic() >= patience:
                    return
                time.sleep(min(POLL_SECONDS, wait))
                continue
            try:
                yield lease
            except BaseException:
                self.release(lease.id)
                raise
            self.ack(lease.id)
            patience = time.monotonic() + wait

    def ack(self, lease_id: str, sessions: Sequence[str] | None = None) -> LeaseState:
        """Done with a lease's sessions, or with those named: they are never handed out again."""
        return self._do(calls.ack_lease(lease_id, sessions))

    def release(self, lease_id: str, sessions: Sequence[str] | None = None) -> LeaseState:
        """Gives a lease's sessions back, or those named."""
        return self._do(calls.release_lease(lease_id, sessions))

    def extend(self, lease_id: str, expires_in: float) -> LeaseState:
        """Lets a lease last ``expires_in`` seconds from now."""
        return self._do(calls.extend_lease(lease_id, expires_in))

    def lease_state(self, lease_id: str) -> LeaseState:
        """Returns what became of a lease."""
        return self._do(calls.lease_state(lease_id))

    def leased_samples(self, lease_id: str) -> Lease:
        """The samples that a lease still holds, once more."""
        return self._do(calls.leased_samples(lease_id))

    def retain(
        self,
        *,
        keep_seconds: float | None = None,
        max_tokens: int | None = None,
        max_bytes: int | None = None,
        finish_idle_seconds: float | None = None,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Drops what is over these limits, except what is open or leased; the report says what went and what stayed."""
        limits = {
            "keep_seconds": keep_seconds,
            "max_tokens": max_tokens,
            "max_bytes": max_bytes,
            "finish_idle_seconds": finish_idle_seconds,
            "dry_run": dry_run,
        }
        return self._do(calls.retain(limits))

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _do(self, call: ApiCall[T]) -> T:
        request = call.request(self._http)
        try:
            response = self._http.send(request)
        except httpx.TransportError as error:
            raise calls.unreached(error, request) from error
        return call.answer(response)
