"""Limits of requests' bodies: so many bytes of one, so many of all that are under way, and nothing compressed.

A compressed body is refused, not inflated: a thousandth of the limit could become a thousand times it.
"""

from collections.abc import Mapping
from typing import Self

from starlette.datastructures import Headers
from starlette.types import Message, Receive

from tickertape.server.errors import BodyTooLarge, ProxyError, UnsupportedEncoding

#: Bytes of each body that are not counted among those under way: its connection may hold as many anyway. So large
#: bodies never keep small ones out.
_FREE = 64 * 2**10
#: Bytes of the longest body that is no agent's: rewards of every token of a session are a few hundred kilobytes.
_MOST_OF_OTHERS = 2 * 2**20


class TooManyBodyBytes(ProxyError):
    """The bodies that are being read take up all the memory that they may."""

    status = 503
    code = "too_many_body_bytes"
    headers: Mapping[str, str] = {"Retry-After": "1", "Connection": "close"}


class Bodies:
    """Limits of what bodies may take up.

    Args:
        most: bytes of the longest.
        together: bytes of all that are being read, beyond the first 64 KiB of each; one always fits.
    """

    def __init__(self, most: int = 64 * 2**20, together: int = 512 * 2**20) -> None:
        self.most = most
        self.together = max(most, together)
        self.held = 0
        """Bytes of bodies that are being read."""


class BoundedBody:
    """The body of one request, counted while the block runs.

    Args:
        bodies: what they may take up.
        headers: the request's.
        receive: the request's; reads the body, and then waits for the client to go away.
        is_long: True if it may have the longest of bodies, as agents' calls may.

    Raises:
        BodyTooLarge, UnsupportedEncoding: the headers say so already; on entering.
    """

    def __init__(self, bodies: Bodies, headers: Headers, receive: Receive, *, is_long: bool) -> None:
        self._bodies = bodies
        self._headers = headers
        self._receive = receive
        self._most = bodies.most if is_long else min(bodies.most, _MOST_OF_OTHERS)
        self._read = self._held = 0
        self._is_whole = False

    def __enter__(self) -> Self:
        _check_head(self._headers, self._most)
        return self

    async def receive(self) -> Message:
        """As ASGI's.

        Raises:
            BodyTooLarge, TooManyBodyBytes: more has come than may.
        """
        if self._is_whole:  # what reads on waits for the client to go away, and has done with the body
            self._release()
            return await self._receive()
        message = await self._receive()
        if message["type"] != "http.request":
            return message
        self._read += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        more = max(0, self._read - _FREE) - self._held
        self._held += more
        self._bodies.held += more
        if self._read > self._most:
            raise _too_large(self._most)
        if more > 0 and self._bodies.held > self._bodies.together:
            raise _too_many(self._bodies.together)
        return message

    def __exit__(self, *_: object) -> None:
        self._release()

    def _release(self) -> None:
        self._bodies.held -= self._held
        self._held = 0


def _check_head(headers: Headers, most: int) -> None:
    encodings = [each for each in headers.getlist("content-encoding") if each.strip().lower() not in ("", "identity")]
    if encodings:
        raise UnsupportedEncoding(f"a body is read as it is sent, not {', '.join(encodings)!r:.100}: send it plain")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal()) or int(length[:20]) > most:
        raise _too_large(most)


def _too_large(most: int) -> BodyTooLarge:
    why = "which is the limit of calls that are no agent's" if most == _MOST_OF_OTHERS else "the limit (max_body_bytes)"
    return BodyTooLarge(f"the body has more than {most} bytes, {why}")


def _too_many(together: int) -> TooManyBodyBytes:
    return TooManyBodyBytes(
        f"the bodies that are being read have more than {together} bytes together, the most that this server holds at"
        " once (max_body_memory); try again later"
    )
