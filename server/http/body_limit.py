"""What is read of a request's body: so many bytes and no more, and nothing that is compressed.

A compressed body is refused, not inflated: a thousandth of the limit could become a thousand times it.
"""

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tickertape.server.errors import BodyTooLarge, ProxyError, UnsupportedEncoding


class BodyLimit:
    """ASGI middleware.

    Args:
        app: what reads bodies.
        most: bytes of the longest, of the server that got the request.
        respond: an error as an answer, in the protocol of the request.
    """

    def __init__(
        self, app: ASGIApp, most: Callable[[Scope], int], respond: Callable[[Request, ProxyError], Response]
    ) -> None:
        self._app = app
        self._most = most
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = self._most(scope)
        try:
            _check_head(Headers(scope=scope), most)
        except ProxyError as error:
            await self._refuse(error, scope, receive, send)
            return
        read, is_over, has_begun = 0, False, False

        async def counted() -> Message:
            nonlocal read, is_over
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:
                is_over = True
                raise _too_large(most)
            return message

        async def unless_over(message: Message) -> None:
            nonlocal has_begun
            if not is_over or has_begun:  # what the application makes of the error is not the answer
                has_begun = True
                await send(message)

        try:
            await self._app(scope, counted, unless_over)
        except BodyTooLarge:
            if not is_over:
                raise
        if is_over and not has_begun:
            await self._refuse(_too_large(most), scope, receive, send)

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
