"""Every fault of :mod:`tests.server.faults` with real sockets: what is heard, what is kept, and that the next call is
well."""

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from tests.engines import ScriptedEngine, faulty_vllm, vllm_event
from tests.server.conftest import Proxy, scripted, until
from tests.server.faults import CLIENT_FAULTS, END, ENGINE_FAULTS, ClientFault, EngineFault, client_table, engine_table
from tests.server.faults import healthy as well
from tests.server.invariants import check_once, check_prefix
from tickertape.clients.engines.vllm.engine import VllmEngine

pytestmark = pytest.mark.slow


DOCS = Path(__file__).parents[3] / "docs" / "limits.md"
QUICK = {"first_token_timeout": 0.4, "token_timeout": 0.4, "engine_patience": 0.3}
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("fault", ENGINE_FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_fault_of_an_engine(fault: EngineFault, streamed: bool, tmp_path: Path, session: str) -> None:
    settings = {**QUICK, **dict(fault.settings)}
    faulty = True

    async def handler(request: web.Request) -> web.StreamResponse:
        await request.read()
        play = fault.play if faulty else well
        assert play is not None, "nobody is there to answer"
        return await play(request)

    with ExitStack() as stack:
        engine = stack.enter_context(ExitStack())
        url = engine.enter_context(faulty_vllm(handler))
        port = int(url.rpartition(":")[2])
        proxy = stack.enter_context(scripted(VllmEngine(url, connect_timeout=0.2), tmp_path, **settings))
        with ExitStack() as absent:
            if fault.play is None:
                engine.close()
                if fault.name == "accepts no connection":
                    absent.enter_context(full_backlog(port))
            check_heard(fault, proxy, session, streamed)
        faulty = False
        if fault.play is None:
            engine.enter_context(faulty_vllm(handler, port=port))
        until(lambda: proxy.http.get("/ready").status_code == 200)
        (turn,) = proxy.tape.turns(session)
        assert (turn.outcome, len(turn.completion)) == (fault.outcome, fault.kept)
        assert turn.error
        assert proxy.chat(session, HELLO).status_code == 200
        check_prefix(proxy.tape.turns(session))
        check_once(proxy.tape, session)


def check_heard(fault: EngineFault, proxy: Proxy, session: str, streamed: bool) -> None:
    response = proxy.chat(session, HELLO, max_tokens=16, stream=streamed)
    if streamed and fault.event:
        assert response.status_code == 200
        last = [line for line in response.text.splitlines() if line.startswith("data: {")][-1]
        error = json.loads(last.removeprefix("data: "))["error"]
    else:
        assert response.status_code == fault.status, response.text
        error = response.json()["error"]
        assert ("Retry-After" in response.headers) == fault.retry_after
    assert error["code"] == fault.code, error


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_nothing_is_waited_for_behind_the_end(streamed: bool, tmp_path: Path, session: str) -> None:
    """An engine that has said that its answer is over, and leaves the connection as it is."""

    async def handler(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        event = json.dumps(vllm_event([9707, END], [-1.0, -2.0], "stop"))
        await response.write(f"data: {event}\n\ndata: [DONE]\n\n".encode())
        while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        return response

    patient = {"first_token_timeout": 30.0, "token_timeout": 30.0}
    with faulty_vllm(handler) as url, scripted(VllmEngine(url), tmp_path, **patient) as proxy:
        began = time.monotonic()
        assert proxy.chat(session, HELLO, max_tokens=16, stream=streamed).status_code == 200
        assert time.monotonic() - began < 10
        assert [turn.outcome for turn in proxy.tape.turns(session)] == ["stop"]


@contextmanager
def full_backlog(port: int) -> Iterator[None]:
    """Somebody listens there, and the kernel has no room for another connection."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        time.sleep(0.05)
        yield


class Stage:
    """A proxy over an engine that samples a long answer slowly, and a client by hand."""

    def __init__(self, stack: ExitStack, directory: Path, session: str, **settings: Any) -> None:
        self.engine = ScriptedEngine(lambda *_: [*[100] * 3900, END], delay=0.002)
        quick = {"request_timeout": 0.3, "send_timeout": 0.5}
        self.proxy = stack.enter_context(scripted(self.engine, directory, **{**quick, **settings}))
        self.session = session
        self.client = stack.enter_context(socket.socket())
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        host, port = self.proxy.url.removeprefix("http://").split(":")
        self.client.settimeout(10)
        self.client.connect((host, int(port)))

    def send(self, *, part: float = 1.0, **fields: Any) -> None:
        """A request; of its body, a part."""
        body = json.dumps({"model": self.proxy.model, "messages": HELLO, **fields}).encode()
        head = (
            f"POST /sessions/{self.session}/v1/chat/completions HTTP/1.1\r\nHost: [::]\r\nContent-Length: {len(body)}"
        )
        self.client.sendall(f"{head}\r\n\r\n".encode() + body[: int(part * len(body))])

    def is_sampling(self) -> bool:
        return bool(self.engine.calls) and len(self.engine.calls[0].token_ids) > 5

    def rest(self) -> bytes:
        """What comes until the connection ends."""
        heard = b""
        try:
            while part := self.client.recv(65536):
                heard += part
        except ConnectionResetError:
            pass
        return heard


def head_too_slow(stage: Stage) -> None:
    stage.client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost")
    assert b"408" in stage.rest()


def body_too_slow(stage: Stage) -> None:
    stage.send(part=0.5)
    assert b"request_timeout" in stage.rest()


def body_broken_off(stage: Stage) -> None:
    stage.send(part=0.5)
    stage.client.close()


def gone_whole(stage: Stage) -> None:
    stage.send()
    until(stage.is_sampling)
    stage.client.close()


def gone_streamed(stage: Stage) -> None:
    stage.send(stream=True)
    assert stage.client.recv(64)
    until(stage.is_sampling)
    stage.client.close()


def stream_unread(stage: Stage) -> None:
    """The kernel holds some of it, so it takes a while until the answer does not move any more."""
    stage.send(stream=True, max_tokens=3900)
    until(lambda: bool(stage.engine.calls) and stage.engine.calls[0].closed, 20)
    stage.rest()


def whole_unread(stage: Stage) -> None:
    stage.engine.delay = 0.0
    stage.send(logprobs=True, top_logprobs=20, max_tokens=3900)
    until(lambda: bool(stage.proxy.tape.turns(stage.session)))
    time.sleep(1.5)
    assert not stage.rest().endswith(b"}"), "it was cut off midway"


def gone_afterwards(stage: Stage) -> None:
    stage.send(max_tokens=5)
    assert b'"length"' in stage.client.recv(65536)
    stage.client.close()


PLAYS: dict[str, Callable[[Stage], None]] = dict(
    zip(
        [fault.name for fault in CLIENT_FAULTS],
        [
            head_too_slow,
            body_too_slow,
            body_broken_off,
            gone_whole,
            gone_streamed,
            stream_unread,
            whole_unread,
            gone_afterwards,
        ],
        strict=True,
    )
)


@pytest.mark.parametrize("fault", CLIENT_FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_fault_of_a_client(fault: ClientFault, tmp_path: Path, session: str) -> None:
    with ExitStack() as stack:
        stage = Stage(stack, tmp_path, session)
        PLAYS[fault.name](stage)
        proxy = stage.proxy
        if fault.outcome != "none":
            until(lambda: bool(proxy.tape.turns(session)))
            (turn,) = proxy.tape.turns(session)
            sampled = len(stage.engine.calls[0].token_ids) if stage.engine.calls else 0
            assert turn.outcome == ("length" if fault.outcome == "its own" else fault.outcome)
            assert len(turn.completion) == (0 if fault.kept == "0" else sampled)
            check_once(proxy.tape, session)
        stage.engine.delay = 0.0
        assert proxy.chat(session, [{"role": "user", "content": "Next"}], max_tokens=3).status_code == 200


def test_peers_that_vanish_are_asked_whether_they_are_there(tmp_path: Path, session: str) -> None:
    """A half-open connection: the kernel ends it. Here one sees that its timer runs (/proc/net/tcp: 02, keepalive)."""
    with ExitStack() as stack:
        stage = Stage(stack, tmp_path, session)
        stage.send(stream=True)
        assert stage.client.recv(64)
        stage.engine.delay = 3600.0
        ours = f":{stage.client.getpeername()[1]:04X}"
        theirs = f":{stage.client.getsockname()[1]:04X}"
        until(lambda: _timer(ours, theirs) == "02")


def _timer(local: str, remote: str) -> str | None:
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(local) and fields[2].endswith(remote):
            return fields[5].partition(":")[0]
    return None


def test_connections_beyond_the_most_are_refused_but_not_probes(tmp_path: Path, session: str) -> None:
    with ExitStack() as stack:
        stage = Stage(stack, tmp_path, session, max_connections=3, request_timeout=30)
        host, port = stage.proxy.url.removeprefix("http://").split(":")
        held = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(4)]
        time.sleep(0.1)
        refused = httpx.post(f"{stage.proxy.url}/v1/chat/completions", json={})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "too_many_connections")
        assert refused.headers["Retry-After"] == "1"
        assert httpx.get(f"{stage.proxy.url}/health").status_code == 200
        for connection in held:
            connection.close()
        until(lambda: httpx.get(f"{stage.proxy.url}/v1/models").status_code == 200)


@pytest.mark.parametrize("table", [engine_table, client_table])
def test_the_page_holds_the_table(table: Callable[[], str]) -> None:
    assert table() in DOCS.read_text(), "python -m tests.server.faults prints it"
