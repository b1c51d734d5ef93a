"""What is read of requests' bodies: so many bytes of one, so many of all that are under way, and nothing compressed.

A compressed body is refused, not inflated: a thousandth of the limit could become a thousand times it.
"""

from collections.abc import Callable, Mapping

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
    headers: Mapping[str, str] = {"Retry-After": "1"}


class Bodies:
    """What bodies may take up.

    Args:
        most: bytes of the longest.
        together: bytes of all that are being read, beyond the first 64 KiB of each; one always fits.
    """

    def __init__(self, most: int = 64 * 2**20, together: int = 512 * 2**20) -> None:
        self.most = most
        self.together = max(most, together)
        self.held = 0
        """Bytes of bodies that are being read."""


class BodyLimit:
    """ASGI middleware.

    Args:
        app: what reads bodies.
        bodies: what they may take up, of the server that got the request.
        is_long: whether a request may have the longest of bodies, as agents' calls do.
        respond: an error as an answer, in the protocol of the request.
    """

    def __init__(
        self,
        app: ASGIApp,
        bodies: Callable[[Scope], Bodies],
        is_long: Callable[[Scope], bool],
        respond: Callable[[Request, ProxyError], Response],
    ) -> None:
        self._app = app
        self._bodies = bodies
        self._is_long = is_long
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        bodies = self._bodies(scope)
        try:
            most = bodies.most if self._is_long(scope) else min(bodies.most, _MOST_OF_OTHERS)
            _check_head(Headers(scope=scope), most)
        except ProxyError as error:
            await self._refuse(error, scope, receive, send)
            return
        read = held = 0
        is_whole = has_begun = False
        refusal: ProxyError | None = None

        async def counted() -> Message:
            nonlocal read, held, is_whole, refusal
            if is_whole:  # what reads on waits for the client to go away, and has done with the body
                bodies.held -= held
                held = 0
            message = await receive()
            if message["type"] != "http.request":
                return message
            read += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            more = max(0, read - _FREE) - held
            held += more
            bodies.held += more
            if read > most:
                refusal = _too_large(most)
            elif more > 0 and bodies.held > bodies.together:
                refusal = _too_many(bodies.together)
            if refusal is not None:
                raise refusal
            return message

        async def unless_refused(message: Message) -> None:
            nonlocal has_begun
            if refusal is None or has_begun:  # what the application makes of the error is not the answer
                has_begun = True
                await send(message)

        try:
            await self._app(scope, counted, unless_refused)
        except ProxyError as error:
            if error is not refusal:
                raise
        finally:
            bodies.held -= held
        if refusal is not None and not has_begun:
            await self._refuse(refusal, scope, receive, send)

    async def _refuse(self, error: ProxyError, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._respond(Request(scope), error)
        answer.headers["Connection"] = "close"  # the rest of the body is not waited for
        await answer(scope, receive, send)


def _check_head(headers: Headers, most: int) -> None:
    encodings = [each for each in headers.getlist("content-encoding") if each.strip().lower() not in ("", "identity")]
    if encodings:
        raise UnsupportedEncoding(f"a body is read as it is sent, not {', '.join(encodings)!r:.100}: send it plain")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal()) or int(length[:20]) > most:
        raise _too_large(most)


def _too_large(most: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body has more than {most} bytes, which is the limit of this server (max_body_bytes)")


def _too_many(together: int) -> TooManyBodyBytes:
    return TooManyBodyBytes(
        f"the bodies that are being read have more than {together} bytes together, the most that this server holds at"
        " once (max_body_memory); try again later"
    )
