"""The trainer's client of a Tickertape server, sync and async."""

from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
import orjson

from tickertape.clients.tape import Sample, Session, Turn, read


class TrajectoryError(Exception):
    """The server refused, or could not do what was asked.

    Attributes:
        status: the HTTP status.
        code: the server's error code, such as ``session_not_found``.
    """

    def __init__(self, message: str, *, status: int, code: str | None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class _Client:
    """What both clients share: addresses."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url.rstrip("/")

    def agent_base_url(self, session_id: str) -> str:
        """What an agent sets as its OpenAI ``base_url`` so that its calls land in this session."""
        return f"{self.base_url}{_session(session_id)}/v1"


class TrajectoryClient(_Client):
    """Reads the tape.

    >>> with TrajectoryClient("http://127.0.0.1:8700") as tape:
    ...     for session in tape.sessions():
    ...         for sample in tape.samples(session.id):
    ...             train(sample.token_ids, sample.loss_mask, sample.logprobs)

    Args:
        base_url: of the server, without ``/v1``.
        timeout: seconds for one answer.
        transport: another httpx transport, for tests.

    Every method raises :class:`TrajectoryError` for an error answer and ``httpx.HTTPError`` where there is none.
    """

    def __init__(self, base_url: str, *, timeout: float = 60.0, transport: httpx.BaseTransport | None = None) -> None:
        super().__init__(base_url)
        self._http = httpx.Client(base_url=self.base_url, timeout=timeout, transport=transport)

    def sessions(self, *, page_size: int = 100) -> Iterator[Session]:
        """All sessions in order of creation; pages are fetched as they are needed."""
        after: str | None = None
        while True:
            page = self._get("/sessions", _page(page_size, after))
            yield from (read(Session, each) for each in page["sessions"])
            after = page["next"]
            if after is None:
                return

    def session(self, session_id: str) -> Session:
        """One session, counted up."""
        return read(Session, self._get(_session(session_id)))

    def turns(self, session_id: str, *, after: int = -1, limit: int = -1) -> list[Turn]:
        """A session's turns in order of ``seq``: those after ``after``, at most ``limit`` (-1: all)."""
        answer = self._get(f"{_session(session_id)}/turns", {"after": after, "limit": limit})
        return [read(Turn, each) for each in answer["turns"]]

    def samples(self, session_id: str) -> list[Sample]:
        """A session's training samples; each sampled token is trained in exactly one of them."""
        answer = self._get(f"{_session(session_id)}/samples")
        return [read(Sample, each) for each in answer["samples"]]

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _get(self, path: str, params: dict[str, Any] | None = None) -> Any:
        return _answer(self._http.get(path, params=params))


class AsyncTrajectoryClient(_Client):
    """:class:`TrajectoryClient` for asyncio: the same methods, awaited."""

    def __init__(
        self, base_url: str, *, timeout: float = 60.0, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        super().__init__(base_url)
        self._http = httpx.AsyncClient(base_url=self.base_url, timeout=timeout, transport=transport)

    async def sessions(self, *, page_size: int = 100) -> AsyncIterator[Session]:
        """All sessions in order of creation; pages are fetched as they are needed."""
        after: str | None = None
        while True:
            page = await self._get("/sessions", _page(page_size, after))
            for each in page["sessions"]:
                yield read(Session, each)
            after = page["next"]
            if after is None:
                return

    async def session(self, session_id: str) -> Session:
        """One session, counted up."""
        return read(Session, await self._get(_session(session_id)))

    async def turns(self, session_id: str, *, after: int = -1, limit: int = -1) -> list[Turn]:
        """A session's turns in order of ``seq``: those after ``after``, at most ``limit`` (-1: all)."""
        answer = await self._get(f"{_session(session_id)}/turns", {"after": after, "limit": limit})
        return [read(Turn, each) for each in answer["turns"]]

    async def samples(self, session_id: str) -> list[Sample]:
        """A session's training samples; each sampled token is trained in exactly one of them."""
        answer = await self._get(f"{_session(session_id)}/samples")
        return [read(Sample, each) for each in answer["samples"]]

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _get(self, path: str, params: dict[str, Any] | None = None) -> Any:
        return _answer(await self._http.get(path, params=params))


def _session(session_id: str) -> str:
    return f"/sessions/{quote(session_id, safe='')}"


def _page(size: int, after: str | None) -> dict[str, Any]:
    return {"limit": size} if after is None else {"limit": size, "after": after}


def _answer(response: httpx.Response) -> Any:
    if response.is_success:
        return orjson.loads(response.content)
    try:
        error = orjson.loads(response.content)["error"]
        message, code = error["message"], error["code"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        message, code = response.text[:500], None
    raise TrajectoryError(f"{response.request.url}: {message}", status=response.status_code, code=code)
