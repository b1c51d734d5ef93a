"""An answer that is sent while it is sampled, as server-sent events."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tickertape.server.auth.guard import SESSION_HEADER
from tickertape.server.calls.in_flight import InFlightCall
from tickertape.server.dialects.dialect import StreamWriter
from tickertape.server.errors import ProxyError

EVENT_STREAM = "text/event-stream; charset=utf-8"

_log = logging.getLogger("tickertape")


class LiveResponse(Response):
    """Sends what a call's generation tells as it comes.

    Nothing is sent, the status neither, before there is news or a heartbeat is due, so that a call that fails before is
    answered with its error's own status. A client that reads slowly is waited for; what it misses meanwhile is joined.

    Args:
        call: the call, which has a ``buffer``.
        writer: the protocol's.
        headers: beside those that name the turns.
        heartbeat: seconds of silence after which a sign of life is sent.
    """

    def __init__(self, call: InFlightCall, writer: StreamWriter, headers: Mapping[str, str], heartbeat: float) -> None:
        assert call.buffer is not None  # noqa: S101
        super().__init__(headers={**headers, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._call = call
        self._buffer = call.buffer
        self._writer = writer
        self._heartbeat = heartbeat
        self._open = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call, buffer = self._call, self._buffer
        call.waiters.join()
        gone = asyncio.ensure_future(_disconnected(receive))
        for task in (gone, call.task):
            task.add_done_callback(lambda _: buffer.wake())
        try:
            await self._send_news(gone, send)
            if gone.done():
                call.waiters.leave()
                if call.waiters.gone:
                    await asyncio.wait((call.task,))
                return
            await self._send_end(scope, receive, send)
        except asyncio.CancelledError:  # the server is stopping, which is what the client hears
            call.waiters.stop()
            await asyncio.wait((call.task,))
            await self._send_end(scope, receive, send)
        finally:
            gone.cancel()

    async def _send_news(self, gone: "asyncio.Future[None]", send: Send) -> None:
        """Sends news until the call has ended and all of it is sent, or the client has gone."""
        loop = asyncio.get_running_loop()
        silent_since = loop.time()
        fired = False

        def beat() -> None:
            nonlocal fired
            fired = True
            self._buffer.wake()

        beating = loop.call_later(self._heartbeat, beat)
        try:
            while not gone.done() and (self._buffer.has_news or not self._call.task.done()):
                news = await self._buffer.news()
                if gone.done():
                    return
                if news:
                    await self._send(send, partial(self._writer.write, news))
                    silent_since = loop.time()
                if not fired:
                    continue
                # One timer, which may find that something was sent meanwhile: another one for each event would cost as
                # much as to send it. uvloop counts milliseconds, so it may be early by one.
                fired, left = False, silent_since + self._heartbeat - loop.time()
                if left < 0.002:
                    if self._buffer.turns:
                        await self._send(send, self._writer.heartbeat)
                    silent_since, left = loop.time(), self._heartbeat
                beating = loop.call_later(left, beat)
        finally:
            beating.cancel()

    async def _send(self, send: Send, write: Callable[[], bytes]) -> None:
        events = b""
        if not self._open:
            self._open = True
            turns = self._buffer.turns
            self.headers[SESSION_HEADER] = turns[0].session_id
            self.headers["X-Turn-Id"] = ", ".join(turn.id for turn in turns)
            self.headers["Content-Type"] = EVENT_STREAM
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            events = self._writer.open(turns)
        await send({"type": "http.response.body", "body": events + write(), "more_body": True})

    async def _send_end(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The turn is on tape."""
        buffer = self._buffer
        failure = self._call.task.exception()
        if failure is not None:
            if not self._open:
                raise failure
            _log.error("a stream failed", exc_info=failure)
            buffer.error = ProxyError(f"internal error ({type(failure).__name__}); the server's log has the details")
        elif not self._open and buffer.error is not None:
            answer = self._call.task.result().refusal
            assert answer is not None  # noqa: S101  (there is an error)
            headers = {**self.headers, **answer.headers}
            plain = Response(answer.body, answer.status, headers, media_type=answer.media_type)
            await plain(scope, receive, send)
            return
        end = partial(self._writer.close, buffer.results)
        await self._send(send, end if buffer.error is None else partial(self._writer.fail, buffer.error))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    """Returns when the client has closed the connection: the body has been read, so this is the one message left."""
    await receive()


async def disconnected(request: Request) -> None:
    """The same, of a request."""
    await _disconnected(request.receive)
