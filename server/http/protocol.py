"""HTTP/1.1 as uvicorn speaks it by httptools, with what it leaves unbounded bounded and what it leaves open decided.

One rule holds for every connection: bytes that a request declares as its body are never read as a request, and no byte
after a request that could be framed in two ways is read at all.
"""

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from tickertape.server.errors import InvalidRequest, ProxyError, openai_error

#: Bytes of a request's line and headers, and of what stands between two pieces of a body or after it.
MOST_HEAD = 64 * 2**10

_VERSIONS = ("1.1", "1.0")


class MalformedRequest(InvalidRequest):
    """The bytes are no request that can be read in one way only."""

    code = "malformed_request"


class BoundedProtocol(HttpToolsProtocol):
    """One connection.

    The parser joins what it has of a header until its end comes, and that may never be. Trailers are dropped: they
    would join the headers after these were looked at.

    The parser also stops at the end of a head that asks for another protocol (``Connection: Upgrade``), and takes the
    body for the first bytes of that protocol. None is spoken here, so such a request is served as HTTP/1.1, as RFC 9110
    has it: its head is parsed again without the two headers, and its body as any other.
    """

    _in_head = True
    _idle_bytes = 0
    _is_refused = False
    _wants_upgrade = False

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self._unset_keepalive_if_required()
        self._idle_bytes += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            why = error.__context__ if isinstance(error.__context__, MalformedRequest) else error
            self._refuse(f"this cannot be read as HTTP/1.1: {why}")
            return
        if self._idle_bytes > MOST_HEAD:
            self._refuse(f"the request's headers have more than {MOST_HEAD} bytes")

    def _feed(self, data: bytes) -> None:
        rest: bytes | memoryview = data
        while True:
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as stopped:
                rest = memoryview(rest)[stopped.args[0] :]
                self._wants_upgrade = False
                head = self._head_without_upgrade()
                self.parser = httptools.HttpRequestParser(self)  # the old one is done with this connection
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
                self.parser.feed_data(head)
            else:
                return

    def _head_without_upgrade(self) -> bytes:
        lines = [b"%s %s HTTP/1.1" % (self.parser.get_method(), self.url)]
        for name, value in self.headers:
            if name == b"connection":
                options = [each for each in value.split(b",") if each.strip().lower() != b"upgrade"]
                lines.append(b"connection: %s" % b",".join(options))
            elif name != b"upgrade":
                lines.append(b"%s: %s" % (name, value))
        return b"\r\n".join([*lines, b"", b""])

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._idle_bytes = False, 0
        self._check_head()
        if self.parser.should_upgrade():
            self._wants_upgrade = True
            return
        super().on_headers_complete()
        if self.expect_100_continue:
            # Answered without its body having been asked for, the client may send it or not: two ways to go on.
            self.cycle.keep_alive = False

    def _check_head(self) -> None:
        """
        Raises:
            MalformedRequest: it is too long, or others could frame it in another way.
        """
        size, hosts, codings = len(self.url), 0, 0
        for name, value in self.headers:
            size += len(name) + len(value) + 4
            if name == b"host":
                hosts += 1
            elif name == b"transfer-encoding":
                codings += 1
                if value.lower() != b"chunked":
                    raise MalformedRequest(f"Transfer-Encoding {value!r:.100}: only 'chunked' is understood")
        if size > MOST_HEAD:
            raise MalformedRequest(f"its headers have more than {MOST_HEAD} bytes")
        version = self.parser.get_http_version()
        if version not in _VERSIONS:
            raise MalformedRequest(f"HTTP/{version} is not spoken")
        if hosts != 1 and (hosts or version == "1.1"):
            raise MalformedRequest(f"it has {hosts} Host headers, and must have one")
        if codings > 1 or (codings and version == "1.0"):
            raise MalformedRequest("Transfer-Encoding is for HTTP/1.1, once")
        if self.parser.get_method() == b"CONNECT":
            raise MalformedRequest("CONNECT is for proxies that open tunnels")

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._idle_bytes = 0
        if not self._wants_upgrade:
            super().on_message_complete()

    def _refuse(self, why: str) -> None:
        """Reports what is wrong with the bytes, after which none are read."""
        self.logger.warning("%s:%s: %s", *(self.client or ("", "")), why)
        self.end(MalformedRequest(why))

    def end(self, error: ProxyError) -> None:
        """Closes the connection, with an error where an answer is expected next. While another one is due or under way,
        it would be read as that one, or as part of it."""
        self._is_refused = True
        cycle = self.cycle
        is_next = cycle is None or cycle.response_complete
        if is_next or (cycle.more_body and not cycle.response_started and not self.pipeline):
            body = orjson.dumps(openai_error(error))
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[error.status] + head + body)
        self.transport.close()
