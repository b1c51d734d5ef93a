"""A server that is told to stop: it ends in time, and every call has a turn with an outcome."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from tests.engines import faulty_vllm, vllm_event
from tests.materials import qwen3_dir
from tests.server.conftest import until
from tickertape.server.store.store import Store


async def endless(request: web.Request) -> web.StreamResponse:
    """Two tokens, and then nothing for as long as the client is there."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(f"data: {json.dumps(vllm_event([100, 200], [-1.0, -2.0]))}\n\n".encode())
    while True:
        await asyncio.sleep(0.02)
        if request.transport is None or request.transport.is_closing():
            return response


@contextmanager
def serve(engine: str, directory: Path, *flags: str) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """A server in a process of its own; its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "tickertape.server.commands.cli",
        "serve",
        "--port",
        str(port),
        "--engine",
        f"vllm={engine}",
    ]
    command += ["--model", str(qwen3_dir()), "--renderer", "qwen3", "--db", str(directory / "tape.db"), *flags]
    with (directory / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            until(lambda: _answers(url), 60)
            yield process, url
        finally:
            process.kill()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready").status_code == 200
    except httpx.TransportError:
        return False


def ask(url: str, session: str, heard: dict[str, Any], **fields: Any) -> threading.Thread:
    def call() -> None:
        body = {"model": "faulty", "messages": [{"role": "user", "content": session}], **fields}
        try:
            answer = httpx.post(f"{url}/sessions/{session}/v1/chat/completions", json=body, timeout=60)
            heard[session] = answer.status_code, answer.text
        except httpx.TransportError as error:
            heard[session] = 0, repr(error)

    thread = threading.Thread(target=call)
    thread.start()
    return thread


def outcomes(directory: Path, sessions: list[str]) -> dict[str, tuple[str, int]]:
    store = Store(str(directory / "tape.db"))
    try:

        async def read() -> dict[str, tuple[str, int]]:
            found = {}
            for session in sessions:
                (turn,) = await store.turns(session) or []
                found[session] = (str(turn.outcome), len(turn.completion))
            return found

        return asyncio.run(read())
    finally:
        store.close()


@contextmanager
def slow_reader(url: str, path: str, body: bytes) -> Iterator[socket.socket]:
    """A client that sends a request and reads nothing."""
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((host, int(port)))
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: [::]\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        yield connection


def stop_and_check(directory: Path, grace: int, tell: Callable[["subprocess.Popen[bytes]"], None]) -> float:
    """Stops a server with a hanging engine, calls in the line, streams, and a client that never reads; gives the
    seconds that it took."""
    sessions = ["whole", "streamed", "unread", "queued-0", "queued-1"]
    heard: dict[str, Any] = {}
    flags = ("--engine-limit", "3", "--grace", str(grace))
    with faulty_vllm(endless) as engine, serve(engine, directory, *flags) as (process, url):
        threads = [ask(url, "whole", heard), ask(url, "streamed", heard, stream=True)]
        body = {"model": "faulty", "messages": [{"role": "user", "content": "unread"}], "stream": True}
        with slow_reader(url, "/sessions/unread/v1/chat/completions", json.dumps(body).encode()):
            until(lambda: httpx.get(f"{url}/admin/engines", timeout=30).json()["engines"][0]["running"] == 3)
            threads += [ask(url, f"queued-{number}", heard) for number in range(2)]
            until(lambda: httpx.get(f"{url}/admin/engines", timeout=30).json()["waiting"] == 2)
            time.sleep(0.3)  # tokens have come
            began = time.monotonic()
            tell(process)
            code = process.wait(30)
            took = time.monotonic() - began
        for thread in threads:
            thread.join()
    assert code == 0, (directory / "log").read_text()
    assert "Traceback" not in (directory / "log").read_text()
    found = outcomes(directory, sessions)
    assert found == {
        "whole": ("aborted", 2),
        "streamed": ("aborted", 2),
        "unread": ("aborted", 2),
        "queued-0": ("aborted", 0),
        "queued-1": ("aborted", 0),
    }
    for session in ("whole", "queued-0", "queued-1"):
        status, text = heard[session]
        assert (status, json.loads(text)["error"]["code"]) == (503, "server_stopping")
    status, text = heard["streamed"]
    assert status == 200
    assert "server_stopping" in text, "a stream ends with an error event"
    return took


@pytest.mark.slow
def test_server_ends_within_its_grace_period(tmp_path: Path) -> None:
    took = stop_and_check(tmp_path, 2, lambda process: process.send_signal(signal.SIGTERM))
    assert 2 <= took < 4


@pytest.mark.slow
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_ends_it_at_once(tmp_path: Path, second: signal.Signals) -> None:
    def tell(process: "subprocess.Popen[bytes]") -> None:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        process.send_signal(second)

    assert stop_and_check(tmp_path, 30, tell) < 3
