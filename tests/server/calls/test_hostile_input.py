"""What a client might send to get past something, to fall it down, or to be taken for another."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, scripted
from tests.server.raw_http import raw, statuses
from tickertape.server.http.protocol import MOST_HEAD

END = 151645
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
LIMIT = 2**20
AGENT = f"tt-agent-{'0' * 64}"


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    engine = ScriptedEngine(lambda _ids, _sampling: [9707, END], max_context=100_000)
    with scripted(engine, tmp_path_factory.mktemp("tape"), max_body_bytes=LIMIT, served_model_names=("*",)) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def still_serves(proxy: Proxy) -> Iterator[None]:
    """After each of these the server takes turns as before."""
    yield
    assert proxy.chat(None, HELLO).status_code == 200


BODY = json.dumps({"model": "m", "messages": HELLO}).encode()
POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: [::]\r\nContent-Type: application/json\r\n"
GET = b"GET /health HTTP/1.1\r\nHost: [::]\r\n\r\n"
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


# Request smuggling: whatever two parsers could read in two ways is refused, and nothing behind it is a request.


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        b"Content-Length: 4\r\nContent-Length: 5\r\n",
        b"Content-Length: 4\r\nContent-Length: 4\r\n",
        b"Content-Length: 4, 4\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: +4\r\n",
        b"Content-Length: 0x4\r\n",
        b"Content-Length: 99999999999999999999999\r\n",
        b"Content-Length: 4 4\r\n",
        b"Content-Length : 4\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: identity\r\nContent-Length: 4\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"X-A: b\nContent-Length: 4\r\n",
        b"X-A: b\rContent-Length: 4\r\n",
        b"X-A: b\x00c\r\n",
        b"X A: b\r\n",
        b"\x00X-A: b\r\n",
    ],
)
def test_ambiguous_request_is_refused_and_what_follows_is_none(proxy: Proxy, head: bytes) -> None:
    came = raw(proxy.url, POST + head + b"\r\n" + b"0\r\n\r\n" + GET)
    assert statuses(came)[:1] == [400], came
    assert b'{"status":"ok"}' not in came


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\nabc\r\n0\r\n\r\n",
        b"-1\r\nabc\r\n0\r\n\r\n",
        b"3 \nabc\n0\n\n",
        b"3\nabc\n0\n\n",
        b"fffffffffffffffff\r\nabc",
    ],
)
def test_chunks_that_are_none_are_refused(proxy: Proxy, body: bytes) -> None:
    came = raw(proxy.url, POST + b"Transfer-Encoding: chunked\r\n\r\n" + body + GET)
    assert b'{"status":"ok"}' not in came
    assert 200 not in statuses(came)


def test_folded_header_is_one_header_or_none(proxy: Proxy) -> None:
    """A line that begins with a space goes on with the one before: it never is a header of its own."""
    came = raw(proxy.url, POST + b"X-A: b\r\n X-Session-Id: folded\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
    assert statuses(came) in ([200], [400])
    assert b"x-session-id: folded" not in came.lower()


def test_pipelined_requests_are_answered_in_order(proxy: Proxy) -> None:
    came = raw(proxy.url, POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY + GET)
    assert statuses(came) == [200, 200]
    assert came.index(b"chat.completion") < came.index(b'{"status":"ok"}')


def test_trailers_are_no_headers(tmp_path_factory: pytest.TempPathFactory, proxy: Proxy) -> None:
    """They come after the headers were judged: an agent could name another's session in them."""
    engine = ScriptedEngine(lambda _ids, _sampling: [9707, END])
    with scripted(
        engine, tmp_path_factory.mktemp("tape"), agent_key=AGENT, api_key=AGENT, served_model_names=("*",)
    ) as guarded:
        head = POST + b"Authorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n" % AGENT.encode()
        chunk, trailer = CHUNKED[:-2], b"X-Session-Id: foreign\r\n\r\n"
        for parts in ((head + chunk + trailer,), (head, chunk, trailer)):
            came = raw(guarded.url, *parts, pause=0.05)
            assert statuses(came) == [200]
            assert b"foreign" not in came
            assert b"x-session-id: cfg" in came.lower()


def test_head_without_end_is_cut_off(proxy: Proxy) -> None:
    for start in (GET[:-2] + b"X-A: ", GET[:-2], b"GET /", POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-A: "):
        came = raw(proxy.url, start, *([b"a" * 8192] * 12), pause=0.01)
        assert 200 not in statuses(came)
    many = b"".join(b"X-%d: a\r\n" % k for k in range(MOST_HEAD // 8))
    assert statuses(raw(proxy.url, GET[:-2] + many + b"\r\n")) == [400]
    assert statuses(raw(proxy.url, GET[:-2] + b"X-A: %s\r\n\r\n" % (b"a" * 30_000))) == [200]


@pytest.mark.parametrize(
    "target", [b"*", b"http://elsewhere.example/health", b"//health", b"/health#x", b"\xff", b"/%zz"]
)
def test_odd_request_targets(proxy: Proxy, target: bytes) -> None:
    came = raw(proxy.url, b"GET " + target + b" HTTP/1.1\r\nHost: [::]\r\n\r\n")
    assert statuses(came)[0] < 500


def test_websocket_and_other_protocols_are_none(proxy: Proxy) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: %s\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n\r\n"
    for name in (b"websocket", b"h2c"):
        assert 101 not in statuses(raw(proxy.url, GET[:-2] + upgrade % name))


# Bodies.


def test_body_over_the_limit_is_refused_before_it_is_sent(proxy: Proxy) -> None:
    for path, shape in (("/v1/chat/completions", "openai"), ("/v1/messages", "anthropic"), ("/sessions", "openai")):
        head = f"POST {path} HTTP/1.1\r\nHost: [::]\r\nContent-Length: {LIMIT + 1}\r\n\r\n"
        came = raw(proxy.url, head.encode())
        assert statuses(came) == [413]
        error = json.loads(came.partition(b"\r\n\r\n")[2])["error"]
        assert (error.get("code") == "request_too_large") is (shape == "openai")
        assert (error.get("type") == "request_too_large") is (shape == "anthropic")
        assert f"{LIMIT} bytes" in error["message"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/sessions", "/v1/messages/count_tokens", "/tokenize"])
def test_body_over_the_limit_is_refused_while_it_comes(proxy: Proxy, path: str) -> None:
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        while sent < 64 * LIMIT:
            yield b" " * 65536
            sent += 65536

    try:
        answer = httpx.post(proxy.url + path, content=pieces(), headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
    except httpx.HTTPError:  # the connection was closed while this was still sending
        pass
    assert sent < 32 * LIMIT


def test_body_at_the_limit_is_read(proxy: Proxy) -> None:
    body = {"model": proxy.model, "messages": HELLO}
    padded = json.dumps(body).encode().ljust(LIMIT)
    assert proxy.http.post("/v1/chat/completions", content=padded).status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "identity, gzip", "nonsense"])
def test_compressed_body_is_refused_and_not_inflated(proxy: Proxy, encoding: str) -> None:
    import gzip

    bomb = gzip.compress(b" " * 50 * LIMIT)
    began = time.monotonic()
    for path in ("/v1/chat/completions", "/sessions"):
        answer = proxy.http.post(path, content=bomb, headers={"Content-Encoding": encoding})
        assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_content_encoding")
    assert time.monotonic() - began < 2


# JSON.


def nested(depth: int, inner: str = "1") -> str:
    return '{"a":' * depth + inner + "}" * depth


def lists(depth: int) -> str:
    return "[" * depth + "]" * depth


#: A place in a chat request for a value of any kind.
PLACES = {
    "metadata": '"metadata": %s',
    "unknown field": '"x_unknown": %s',
    "parameters": '"tools": [{"type": "function", "function": {"name": "f", "parameters": %s}}]',
    "schema": '"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": %s}}',
    "template": '"chat_template_kwargs": {"enable_thinking": %s}',
    "logit_bias": '"logit_bias": %s',
    "content": '"messages": [{"role": "user", "content": %s}]',
    "stop": '"stop": %s',
    "guided": '"guided_json": %s',
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("depth", [10, 100, 250, 500, 900, 1020, 10_000])
def test_deep_json_is_answered(proxy: Proxy, place: str, depth: int) -> None:
    """By a turn, or by a refusal: never by an error of the server's."""
    for value in (nested(depth), lists(depth), nested(depth // 2, lists(depth // 2))):
        body = f'{{"model": "m", "messages": {json.dumps(HELLO)}, {PLACES[place] % value}}}'
        answer = proxy.http.post("/v1/chat/completions", content=body)
        assert answer.status_code < 500, (depth, answer.text[:300])


@pytest.mark.parametrize("depth", [100, 500, 900, 10_000])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/sessions", '{"metadata": %s}'),
        ("/samples/lease", '{"consumer": "c", "filter": {"metadata": %s}}'),
        ("/v1/responses", '{"model": "m", "input": "x", "metadata": %s}'),
        ("/v1/responses", '{"model": "m", "input": %s}'),
        ("/v1/messages", '{"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": %s}]}'),
        ("/v1/messages", '{"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}],'
         '"tools": [{"name": "f", "input_schema": %s}]}'),
        ("/v1/completions", '{"model": "m", "prompt": %s}'),
        ("/tokenize", '{"messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": %s}'),
        ("/tokenize", '{"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function":'
         ' {"name": "f", "arguments": %s}}]}]}'),
    ],
)  # fmt: skip
def test_deep_json_on_other_routes(proxy: Proxy, path: str, body: str, depth: int) -> None:
    answer = proxy.http.post(path, content=body % nested(depth), headers={"Content-Type": "application/json"})
    assert answer.status_code < 500, answer.text[:300]


def test_deep_arguments_of_a_call_are_text_or_refused(proxy: Proxy) -> None:
    for depth in (100, 900, 100_000):
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": nested(depth)}}
        history = [
            *HELLO,
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "x"},
        ]
        answer = proxy.chat(None, history)
        assert answer.status_code < 500, answer.text[:300]


@pytest.mark.parametrize(
    "fields",
    [
        f'"seed": {10**400}', '"seed": 1e400', f'"max_tokens": {10**30}', '"temperature": NaN',
        '"temperature": Infinity',
        '"temperature": -Infinity', '"temperature": 1e999', '"top_p": 1e-400', f'"n": {10**20}',
        '"stop_token_ids": [1e3]',
        f'"logit_bias": {{"{10**30}": 1}}', '"logit_bias": {"1": 1e300}', f'"x_unknown": {10**400}',
        '"user": "\\ud800"', '"x_\\ud800": 1', '"model": "\\ud800"', '"user": "\\u0000"', '"model": "\\r\\nX-Evil: 1"',
        '"stop": "\\ud800"', f'"stop": "{"s" * 100_000}"', f'"user": "{"u" * 500_000}"',
        '"logit_bias": {' + ", ".join(f'"{k}": 1' for k in range(20_000)) + "}",
        ", ".join(f'"x_{k}": 1' for k in range(20_000)), '"stop": [' + ", ".join(['"s"'] * 20_000) + "]",
        '"temperature": 1, "temperature": 0', '"model": "a", "model": "b"',
    ],
)  # fmt: skip
def test_giant_and_odd_values_are_answered(proxy: Proxy, fields: str) -> None:
    body = f'{{"model": "m", "messages": {json.dumps(HELLO)}, {fields}}}'
    began = time.monotonic()
    answer = proxy.http.post("/v1/chat/completions", content=body)
    assert answer.status_code < 500, answer.text[:300]
    assert time.monotonic() - began < 5
    assert "x-evil" not in answer.headers
    assert sum(len(name) + len(value) for name, value in answer.headers.items()) < 8192


# What is told again: nothing of it makes a header.


@pytest.mark.parametrize("evil", ["a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\rX-Evil: 1", "a\x00", "a\x0bb", "é\u2028"])
def test_nothing_that_is_told_again_makes_a_header(proxy: Proxy, evil: str) -> None:
    body = {"model": evil, "messages": HELLO, evil: 1, "user": evil, "metadata": {evil[:16]: evil}}
    answers = [
        proxy.http.post("/v1/chat/completions", json=body),
        proxy.http.post("/v1/chat/completions", json={**body, "stream": True}),
        proxy.http.post("/v1/responses", json={"model": proxy.model, "input": "x", "previous_response_id": evil}),
        proxy.http.post("/sessions", json={"id": evil}),
        proxy.http.post("/sessions", json={"task_id": evil[:100]}),
        proxy.http.post("/samples/lease", json={"consumer": evil}),
        *(proxy.http.get(f"/{place}/{quote(evil)}") for place in ("sessions", "samples/lease", "v1/responses", "")),
        proxy.http.get("/sessions", params={evil: evil}),
        proxy.http.get("/samples", params={"after": evil, "format": evil}),
    ]  # fmt: skip
    for answer in answers:
        assert answer.status_code < 500, answer.text[:300]
        assert "x-evil" not in answer.headers


# Session ids.


@pytest.mark.parametrize(
    "session", ["..", ".", "%2e%2e", "%00", "a%00b", "a%2Fb", "..%2F..%2Fetc", "%c0%ae", "ａ", "а", "a\u200b",
                "%0d%0aX-Evil:1", "-a", "a" * 129, "a" * 20_000, "a%20b", "~", "a;b", "a\\b", "%ff"],
)  # fmt: skip
def test_session_id_that_is_a_trick_is_refused(proxy: Proxy, session: str) -> None:
    path = f"/sessions/{session}/v1/chat/completions".encode()
    came = raw(proxy.url, b"POST " + path + b" HTTP/1.1\r\nHost: [::]\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
    assert statuses(came)[0] in (400, 404, 405), came[:300]
    assert b"x-evil" not in came.partition(b"\r\n\r\n")[0].lower()
    known = {each.id for each in proxy.tape.sessions(page_size=1000)}
    assert all(name.isascii() and "/" not in name and ".." not in name for name in known)


# Nothing in a message is fetched.


@pytest.fixture
def listener() -> Iterator[tuple[str, list[Any]]]:
    """An address, and who came to it."""
    came: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, address = server.accept()
                except OSError:
                    return
                came.append(address)
                connection.close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", came
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_no_url_of_a_request_is_fetched(proxy: Proxy, listener: tuple[str, list[Any]]) -> None:
    url, came = listener
    image = {"type": "image_url", "image_url": {"url": f"{url}/a.png"}}
    parts: list[Any] = [
        image,
        {"type": "input_image", "image_url": f"{url}/b.png"},
        {"type": "input_file", "file_url": f"{url}/c.pdf"},
        {"type": "input_file", "file_url": "file:///etc/passwd"},
        {"type": "file", "file": {"file_id": url, "file_data": url}},
        {"type": "image", "source": {"type": "url", "url": f"{url}/d.png"}},
        {"type": "document", "source": {"type": "url", "url": f"{url}/e.pdf"}},
        {"type": "input_audio", "input_audio": {"data": url, "format": "wav"}},
        {"type": "video_url", "video_url": {"url": url}},
        {"type": "text", "text": f"look at {url}"},
    ]
    schema = {"$ref": f"{url}/schema.json", "$schema": url, "$id": url}
    for part in parts:
        message = {"role": "user", "content": [part]}
        for path, body in (
            ("/v1/chat/completions", {"messages": [message]}),
            ("/v1/responses", {"input": [message]}),
            ("/v1/messages", {"messages": [message], "max_tokens": 5}),
            ("/tokenize", {"messages": [message]}),
        ):
            assert proxy.http.post(path, json={"model": proxy.model, **body}).status_code < 500
    for fields in (
        {"model": url},
        {"model": "file:///etc/passwd"},
        {"model": "../../etc/passwd"},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}},
        {"chat_template_kwargs": {"template": url}},
        {"chat_template": "{{ url }}"},
        {"tools": [{"type": "mcp", "server_url": url}]},
        {"webhook_url": url, "engine": f"vllm={url}", "base_url": url},
    ):
        assert (
            proxy.http.post(
                "/v1/chat/completions", json={"model": proxy.model, "messages": HELLO, **fields}
            ).status_code
            < 500
        )
    tools = [{"type": "mcp", "server_label": "s", "server_url": url}, {"type": "web_search"}]
    assert (
        proxy.http.post("/v1/responses", json={"model": proxy.model, "input": "x", "tools": tools}).status_code == 400
    )
    time.sleep(0.2)
    assert came == []
    # The listener does hear who comes.
    with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0)):
        time.sleep(0.1)
    assert len(came) == 1


# Time: what a request costs grows no faster than the request.


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"pattern": "(a+)+$"}}}},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"pattern": "^(([a-z])+.)+[A-Z]$"}}}]},
        {"stop": ["a" * 5000] * 4},
        {"messages": [{"role": "user", "content": "<think>" * 10_000}]},
        {"messages": [{"role": "user", "content": "<|im_end|>" * 10_000}]},
        {"messages": [{"role": "user", "content": "<|" * 50_000}]},
        {"messages": [{"role": "user", "content": " \n\t" * 100_000}]},
        {"messages": [{"role": "user", "content": "a" * 300_000}]},
        {"messages": [*HELLO, {"role": "assistant", "content": "<think>" * 5000 + "</think>" * 5000}, *HELLO]},
        {"messages": [*HELLO, {"role": "assistant", "content": "<tool_call>{" * 5000}, *HELLO]},
        {"messages": HELLO * 3000},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}] * 10_000}]},
        {"tools": [{"type": "function", "function": {"name": f"f{k}"}} for k in range(2000)]},
    ],
)  # fmt: skip
def test_cost_is_bounded(proxy: Proxy, fields: dict[str, Any]) -> None:
    began = time.monotonic()
    answer = proxy.http.post("/v1/chat/completions", json={"model": proxy.model, "messages": HELLO, **fields})
    assert answer.status_code < 500, answer.text[:300]
    assert time.monotonic() - began < 8
