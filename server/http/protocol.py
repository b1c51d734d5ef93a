"""HTTP/1.1 as uvicorn speaks it by httptools, with what it leaves unbounded bounded."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Bytes of a request's line and headers, and of what stands between two pieces of a body or after it.
MOST_HEAD = 64 * 2**10


class HeadTooLarge(ValueError):
    """More headers than are read."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection.

    The parser joins what it has of a header until its end comes, and that may never be. Trailers are dropped: they
    would join the headers after these were looked at.
    """

    _in_head = True
    _idle_bytes = 0
    _is_refused = False

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self._idle_bytes += len(data)
        super().data_received(data)
        if self._idle_bytes > MOST_HEAD and not self._is_refused:
            self._refuse()

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._idle_bytes = False, 0
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MOST_HEAD:
            raise HeadTooLarge
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._idle_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """To what cannot be parsed. Where an answer is under way, a second one would be read as part of it."""
        self._is_refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()
            return
        super().send_400_response(msg)

    def _refuse(self) -> None:
        self.logger.warning("a request's headers have more than %d bytes", MOST_HEAD)
        self.send_400_response(f"The request's headers have more than {MOST_HEAD} bytes.")
