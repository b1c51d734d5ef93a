"""Bodies that are being read, of all connections together."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
from starlette.datastructures import Headers
from starlette.types import Message

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, scripted, until
from tests.server.raw_http import rest_of, statuses
from tickertape.server.errors import BodyTooLarge
from tickertape.server.http.body_limit import Bodies, BoundedBody

MOST, TOGETHER = 2**20, 3 * 2**20
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    engine = ScriptedEngine(lambda _ids, _sampling: [9707, 151645])
    with scripted(
        engine,
        tmp_path_factory.mktemp("tape"),
        max_body_bytes=MOST,
        max_body_memory=TOGETHER,
        served_model_names=("*",),
    ) as proxy:
        yield proxy


@pytest.mark.parametrize(("is_long", "most", "named"), [(True, 64 * 2**20, True), (False, 2 * 2**20, False)])
def test_a_long_body_is_told_the_limit_that_it_met(is_long: bool, most: int, named: bool) -> None:
    async def receive() -> Message:
        raise AssertionError("nothing is read of it")

    headers = Headers({"content-length": str(most + 1)})
    with pytest.raises(BodyTooLarge, match=f"{most} bytes") as refused:
        BoundedBody(Bodies(), headers, receive, is_long=is_long).__enter__()
    assert ("max_body_bytes" in refused.value.message) is named


def connect(proxy: Proxy) -> socket.socket:
    place = urlsplit(proxy.url)
    return socket.create_connection((place.hostname, place.port), timeout=10)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/sessions", "/v1/messages/count_tokens"])
def test_bodies_that_do_not_end_take_up_no_more_than_they_may(proxy: Proxy, path: str) -> None:
    """A client sends large bodies on many connections, and never their last byte."""
    head = f"POST {path} HTTP/1.1\r\nHost: [::]\r\nContent-Type: application/json\r\nContent-Length: {MOST}\r\n\r\n"
    with ExitStack() as stack:
        held = [stack.enter_context(connect(proxy)) for _ in range(12)]
        answered = []
        for connection in held:
            connection.settimeout(0.3)
            try:
                connection.sendall(head.encode() + b" " * (MOST - 1))
                answered += statuses(rest_of(connection))
            except OSError:  # refused and closed while it was still sending
                answered.append(503)
        assert answered.count(503) >= 8, answered
        assert set(answered) == {503}
        small = proxy.http.post("/v1/chat/completions", json={"model": "m", "messages": HELLO})
        assert small.status_code == 200, "small bodies are not kept out by large ones"
        large = json.dumps({"model": "m", "messages": HELLO}).encode().ljust(MOST)
        refused = proxy.http.post("/v1/chat/completions", content=large)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "too_many_body_bytes")
        assert refused.headers["Retry-After"] == "1"
        assert refused.headers["Connection"] == "close"
    until(lambda: proxy.http.post("/v1/chat/completions", content=large).status_code == 200)


def test_a_body_that_was_read_is_not_counted_while_its_call_waits(tmp_path_factory: pytest.TempPathFactory) -> None:
    engine = ScriptedEngine(lambda _ids, _sampling: [9707] * 50)
    engine.delay = 0.05
    large = json.dumps({"model": "m", "messages": HELLO, "max_tokens": 50}).encode().ljust(MOST)
    with (
        scripted(
            engine,
            tmp_path_factory.mktemp("tape"),
            max_body_bytes=MOST,
            max_body_memory=TOGETHER,
            served_model_names=("*",),
        ) as proxy,
        ExitStack() as stack,
    ):
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: [::]\r\nContent-Length: {MOST}\r\n\r\n".encode()
        waiting = []
        for _ in range(8):
            connection = stack.enter_context(connect(proxy))
            connection.sendall(head + large)
            waiting.append(connection)
            time.sleep(0.1)
        came = [connection.recv(12) for connection in waiting]
        assert came == [b"HTTP/1.1 200"] * 8
