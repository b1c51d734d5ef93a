"""A session as a block of code: made when the block is entered, finished when it is left, discarded if it raises."""

from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from tickertape.clients import calls
from tickertape.clients.calls import ApiCall, SampleOptions, SessionFields
from tickertape.clients.samples import Sample
from tickertape.clients.tape import Session, Turn

DoT = TypeVar("DoT")


class _Session(Generic[DoT]):
    """The common part of both kinds.

    Attributes:
        id: the session's; empty until the block is entered, if none was given.
        agent_key: what an agent sets as its API key: it reaches this session's calls of the model and nothing else,
            whatever base URL it sets beside it. Empty until the block is entered.
    """

    def __init__(
        self, do: DoT, server_url: str, session_id: str | None, fields: SessionFields, key_expires_in: float
    ) -> None:
        self._do = do
        self._server_url = server_url
        self._create = calls.open_session(session_id, fields, key_expires_in)
        self._is_open = False
        self.id = session_id or ""
        self.agent_key = ""

    @property
    def base_url(self) -> str:
        """Returns what an agent sets as its OpenAI ``base_url``."""
        return f"{self._server_url}{calls.session_path(self.id)}/v1"

    @property
    def api_key(self) -> str:
        """:attr:`agent_key`, by the name that OpenAI's clients give it."""
        return self.agent_key

    def _opened(self, made: tuple[Session, str]) -> None:
        session, self.agent_key = made
        self.id, self._is_open = session.id, True

    def _last(self, failed: bool) -> ApiCall[Session] | None:
        """Returns the call that is left to do at the end of the block."""
        if not self._is_open:
            return None
        return calls.discard_session(self.id) if failed else calls.finish_session(self.id)


class OpenSession(_Session[Callable[[ApiCall[Any]], Any]]):
    """See :meth:`tickertape.clients.TrajectoryClient.session`."""

    def __enter__(self) -> Self:
        self._opened(self._do(self._create))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        last = self._last(kind is not None)
        if last is not None:
            self._do(last)

    def reward(
        self,
        reward: float | None = calls.UNSET,
        *,
        turns: Mapping[str, float | None] | None = None,
        tokens: Mapping[str, Any] | None = None,
    ) -> None:
        """Sets rewards: the session's, turns' by turn id, tokens' by turn id. What is left out stays as it is."""
        self._do(calls.set_rewards(self.id, reward, turns, tokens))

    def turns(self) -> list[Turn]:
        """The turns so far."""
        return self._do(calls.list_turns(self.id, -1, -1))  # type: ignore[no-any-return]

    def samples(self, **options: Any) -> list[Sample]:
        """The samples so far; for ``options`` see :class:`tickertape.clients.calls.SampleOptions`."""
        wanted: SampleOptions = options  # type: ignore[assignment]
        return self._do(calls.session_samples(self.id, wanted))  # type: ignore[no-any-return]

    def finish(self) -> Session:
        """Finishes it before the end of the block."""
        self._is_open = False
        return self._do(calls.finish_session(self.id))  # type: ignore[no-any-return]

    def discard(self) -> Session:
        """Takes it out of the samples; the block may go on."""
        self._is_open = False
        return self._do(calls.discard_session(self.id))  # type: ignore[no-any-return]


class AsyncOpenSession(_Session[Callable[[ApiCall[Any]], Awaitable[Any]]]):
    """:class:`OpenSession` for asyncio: the same methods, awaited."""

    async def __aenter__(self) -> Self:
        self._opened(await self._do(self._create))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        last = self._last(kind is not None)
        if last is not None:
            await self._do(last)

    async def reward(
        self,
        reward: float | None = calls.UNSET,
        *,
        turns: Mapping[str, float | None] | None = None,
        tokens: Mapping[str, Any] | None = None,
    ) -> None:
        """See :meth:`OpenSession.reward`."""
        await self._do(calls.set_rewards(self.id, reward, turns, tokens))

    async def turns(self) -> list[Turn]:
        """The turns so far."""
        return await self._do(calls.list_turns(self.id, -1, -1))  # type: ignore[no-any-return]

    async def samples(self, **options: Any) -> list[Sample]:
        """See :meth:`OpenSession.samples`."""
        wanted: SampleOptions = options  # type: ignore[assignment]
        return await self._do(calls.session_samples(self.id, wanted))  # type: ignore[no-any-return]

    async def finish(self) -> Session:
        """Finishes it before the end of the block."""
        self._is_open = False
        return await self._do(calls.finish_session(self.id))  # type: ignore[no-any-return]

    async def discard(self) -> Session:
        """Takes it out of the samples; the block may go on."""
        self._is_open = False
        return await self._do(calls.discard_session(self.id))  # type: ignore[no-any-return]
