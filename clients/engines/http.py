"""HTTP to an engine, with its failures named."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import aiohttp
import orjson

from tickertape.clients.engines.errors import (
    EngineBusy,
    EngineGone,
    EngineNonsense,
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
    Phase,
)

#: Seconds to a connection: a host that is there answers in milliseconds.
CONNECT_TIMEOUT = 5.0
#: Seconds for the end of an answer after its last event.
_LINGER = 0.05
_JSON = {"Content-Type": "application/json"}
_PROBE = aiohttp.ClientTimeout(total=5.0)
#: How engines call the limit that a prompt exceeds.
_CONTEXT_LIMITS = ("context length", "context size", "maximum model length", "exceeds the maximum allowed length")


#: Headers that go with what a task asks of engines, such as the trace that it belongs to.
passed_on: ContextVar[Mapping[str, str]] = ContextVar("passed_on", default=MappingProxyType({}))


class EngineConnection:
    """A pool of connections to one engine: GETs are probes, and wait for seconds only; POSTs are calls.

    Args:
        url: where the engine listens, without a path.
        api_key: sent as a Bearer token, if the engine wants one.
        connect_timeout: seconds to a connection.
        read_timeout: seconds between two reads; ``None`` waits as long as sampling takes.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._headers = _JSON if api_key is None else {**_JSON, "Authorization": f"Bearer {api_key}"}
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=None, sock_connect=connect_timeout, sock_read=read_timeout
        )
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    async def open(self) -> None:
        # Probes have connections of their own: theirs go round those that lie idle, and so would keep all of a busy
        # time open for ever.
        for method, patience in (("GET", _PROBE), ("POST", self._timeout)):
            if method not in self._sessions:
                self._sessions[method] = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    timeout=patience,
                    trust_env=False,
                )

    async def close(self) -> None:
        while self._sessions:
            await self._sessions.popitem()[1].close()

    async def get_json(self, path: str) -> Any:
        """The JSON behind ``path``.

        Raises:
            EngineUnavailable, EngineRefused, EngineNonsense: see :mod:`tickertape.clients.engines.errors`.
        """
        async with self._request("GET", path, None) as response:
            return _json(await response.read(), path)

    async def check(self, path: str) -> None:
        """Raises unless ``path`` answers 2xx."""
        async with self._request("GET", path, None) as response:
            await response.read()

    async def status(self, path: str) -> tuple[int, bytes]:
        """The status and the body that ``path`` answers, whatever they are.

        Raises:
            EngineUnavailable: it does not answer.
        """
        async with self._request("GET", path, None, any_status=True) as response:
            return response.status, await response.read()

    async def post_json(self, path: str, body: bytes, headers: dict[str, str] | None = None) -> Any:
        """Posts a JSON body and returns the answer's JSON; raises as :meth:`get_json`."""
        async with self._request("POST", path, body, headers) as response:
            return _json(await response.read(), path)

    async def post(self, path: str, body: bytes) -> bytes:
        """Posts a JSON body to ``path`` and returns the answer's body, which may be empty; raises as
        :meth:`get_json`."""
        async with self._request("POST", path, body) as response:
            return await response.read()

    @asynccontextmanager
    async def events(
        self, path: str, body: bytes, headers: dict[str, str] | None = None
    ) -> AsyncIterator["EventStream"]:
        """Posts a JSON body; the answer is server-sent events. Leaving the block early closes the connection. Raises as
        :meth:`get_json`, also while the block reads."""
        async with self._request("POST", path, body, headers) as response:
            yield EventStream(response.content)

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str] | None = None,
        *,
        any_status: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            response = await self._send(method, path, body, headers)
            try:
                if not (any_status or 200 <= response.status < 300):
                    raise refusal(response.status, await response.read(), self.url + path)
                yield response
            finally:
                response.close() if not response.content.at_eof() else response.release()
        except aiohttp.ConnectionTimeoutError as error:
            text = f"{self.url} did not accept a connection within {self._timeout.sock_connect:g} s"
            raise EngineTimeout(text, Phase.CONNECT) from error
        except TimeoutError as error:  # before OSError, which it is a kind of
            raise EngineUnavailable(f"{self.url} did not answer in time") from error
        except aiohttp.ClientPayloadError as error:
            raise EngineUnavailable(f"{self.url} broke off in the middle of its answer: {error}") from error
        except aiohttp.ClientConnectorError as error:
            raise EngineGone(f"{self.url} cannot be reached: {error}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise EngineUnavailable(f"{self.url} cannot be reached: {error or type(error).__name__}") from error

    async def _send(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str] | None,
    ) -> aiohttp.ClientResponse:
        session = self._sessions.get(method)
        if session is None:
            raise EngineUnavailable(f"the connection to {self.url} is not open")
        for last_try in (False, True):
            try:
                return await session.request(
                    method,
                    self.url + path,
                    data=body,
                    headers={**self._headers, **(headers or {}), **passed_on.get()},
                    allow_redirects=False,
                )
            except aiohttp.ClientConnectorError:
                raise  # no process is listening
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # A kept connection that the engine had closed meanwhile. No token was seen on it, so once more.
                if last_try:
                    raise
        raise AssertionError("unreachable")


class EventStream:
    """Reads the server-sent events of one answer."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content
        self._rest = b""
        self._is_done = False

    async def read(self) -> list[bytes]:
        """Returns the payloads of the events that have come, at least one; none at the end, which is after ``[DONE]``,
        if the answer has one."""
        if self._is_done:
            await self._end()
            return []
        while data := await self._content.readany():
            *lines, self._rest = (self._rest + data).split(b"\n")
            if payloads := [line[5:].strip() for line in lines if line.startswith(b"data:")]:
                self._is_done = payloads[-1] == b"[DONE]"
                return payloads
        rest, self._rest = self._rest, b""
        return [rest[5:].strip()] if rest.startswith(b"data:") else []

    async def _end(self) -> None:
        """Waits a moment for the end of an answer of which all is there: then its connection is used again."""
        if not self._content.at_eof():
            with suppress(TimeoutError):
                async with asyncio.timeout(_LINGER):
                    await self._content.readany()


def _json(body: bytes, path: str) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise EngineNonsense(f"{path} answered what is not JSON: {_excerpt(body)}") from error


def refusal(status: int, body: bytes, url: str) -> EngineRefused | EngineUnavailable:
    """Returns what an error answer means, be it HTTP's or a server-sent event's. 4xx are about the request; the rest
    about the engine."""
    message, param = _error_message(body)
    text = f"{url} answered {status}: {message}"
    if status == 429:
        return EngineBusy(text)
    if not 400 <= status < 500 or status == 408:
        return EngineUnavailable(text)
    lowered = message.lower()
    exceeded = param == "input_tokens" or any(limit in lowered for limit in _CONTEXT_LIMITS)
    return EngineRefused(text, param=param, context_exceeded=exceeded)


def _excerpt(body: bytes) -> str:
    """A body that is not JSON, for people: of a web page only that it is one."""
    text = body[:4096].decode(errors="replace").strip()
    if not text.startswith("<"):
        return text[:500] or "no body"
    title = re.search(r"<title[^>]*>([^<]{1,100})", text, re.IGNORECASE)
    return f"a web page{f' ({title.group(1).strip()})' if title else ''}; is this an engine's address?"


def _error_message(body: bytes) -> tuple[str, str | None]:
    """OpenAI's shape, ``{"message"}`` alone, or whatever text there is."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _excerpt(body), None
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    if isinstance(error, dict):
        return str(error.get("message", error))[:2000], error.get("param")
    return str(error)[:2000], None
