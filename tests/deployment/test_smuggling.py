"""Requests that hide others in their bodies, through real proxies that keep their connections to the server: none of
what is hidden is answered, and nobody gets the answer of another."""

import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from tests.deployment.proxies import caddy, nginx
from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, scripted
from tests.server.raw_http import raw

pytestmark = pytest.mark.slow

TRIES = 500
#: A proxy may keep `/admin` to itself; an attacker asks for it behind its back.
ADMIN = b"GET /admin/engines HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
#: Answered after a while, when the proxy may have given the connection to another client.
_CALL = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hello"}]}).encode()
CALL = (
    b"POST /sessions/hidden/v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"X-Tickertape-Resample: 1\r\nContent-Length: %d\r\n\r\n%s" % (len(_CALL), _CALL)
)
ASKS_FOR_MORE = (
    b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
    b"Connection: upgrade\r\nUpgrade: anything\r\n",
    b"Expect: 100-continue\r\n",
    b"TE: trailers\r\nTrailer: X-A\r\n",
    b"",
)
PATHS = (b"/v1/chat/completions", b"/sessions", b"/nowhere", b"/health", b"/v1/messages/count_tokens")
Proxied = Callable[[list[str], Path], AbstractContextManager[str]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Proxy]:
    engine = ScriptedEngine(lambda _ids, _sampling: [9707, 151645])
    engine.delay = 0.02
    with scripted(engine, tmp_path, served_model_names=("*",)) as proxy:
        yield proxy


def hiding(number: int) -> tuple[bytes, ...]:
    """A request whose body is another one, in one segment or two, of known length or in chunks."""
    kinds = list(itertools.product(ASKS_FOR_MORE, PATHS, (True, False), (False, True), (CALL, ADMIN)))
    more, path, chunked, together, hidden = kinds[number % len(kinds)]
    head = b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n" % path + more
    if chunked:
        head += b"Transfer-Encoding: chunked\r\n\r\n"
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(hidden), hidden)
    else:
        head += b"Content-Length: %d\r\n\r\n" % len(hidden)
        body = hidden
    return (head + body,) if together else (head, body)


@pytest.mark.parametrize("proxied", [caddy, nginx])
def test_nothing_hidden_in_a_body_crosses_a_proxy(server: Proxy, proxied: Proxied, tmp_path: Path) -> None:
    crossed: list[str] = []
    asked = itertools.count()
    over = threading.Event()

    def bystander(url: str) -> None:
        """Another client, which must get its own answers alone."""
        with httpx.Client(base_url=url, trust_env=False, timeout=20) as client:
            while not over.is_set():
                answer = client.get("/v1/models")
                next(asked)
                if answer.status_code != 200 or answer.json().get("object") != "list":
                    crossed.append(answer.text[:200])
                time.sleep(0.001)

    with proxied([server.url], tmp_path) as url:
        others = [threading.Thread(target=bystander, args=(url,)) for _ in range(2)]
        for other in others:
            other.start()
        for number in range(TRIES):
            came = raw(url, *hiding(number), pause=0.002, silence=0.03)
            if b'"engines"' in came:
                crossed.append(came.decode())
        over.set()
        for other in others:
            other.join()
    assert crossed == []
    assert next(asked) > 100
    reached = re.findall(
        r'tickertape_http_requests_total\{.*route="/admin/engines".*', server.http.get("/metrics").text
    )
    assert reached == []
    assert [session.id for session in server.tape.sessions() if session.id == "hidden"] == []
