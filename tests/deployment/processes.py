"""Servers as processes of their own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.engines import streaming, vllm_event
from tests.materials import qwen3_dir

#: Ids of Qwen3 for " hello" three times and the end of a turn, one event each.
ANSWER = streaming(
    [*(vllm_event([23811], [-0.5]) for _ in range(3)), vllm_event([151645], [-0.1], "stop"), "[DONE]"], together=False
)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def started(
    command: Sequence[str | Path], *, environment: Mapping[str, str], cwd: Path, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended with the block. What it says goes to ``log``."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in command], env=dict(environment), cwd=cwd, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path, *, seconds: float = 60) -> None:
    """Waits for ``GET url`` to answer with 200."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(url, timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"{url} was not ready after {seconds} s: {log.read_text()}")


def bin_directory() -> Path:
    """Of this environment: where programs of its packages lie."""
    return Path(sys.executable).parent


@dataclass
class Server:
    """A running ``tickertape serve``."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def tickertape(settings: Mapping[str, str], folder: Path) -> Iterator[Server]:
    """This source's own server, from nothing but variables; yields when it is ready."""
    url, log = f"http://127.0.0.1:{settings['TICKERTAPE_PORT']}", folder / "log"
    variables = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    } | settings
    command = [sys.executable, "-m", "tickertape.server.commands.cli", "serve"]
    with started(command, environment=variables, cwd=folder, log=log) as process:
        wait_until_ready(f"{url}/ready", process, log)
        yield Server(url, process, log)


def serve_settings(engine: str, port: int) -> dict[str, str]:
    """Variables for a server beside an engine in vLLM's place."""
    return {
        "TICKERTAPE_ENGINES": f"vllm={engine}",
        "TICKERTAPE_MODEL": str(qwen3_dir()),
        "TICKERTAPE_PORT": str(port),
        "TICKERTAPE_SERVED_MODEL_NAMES": "*",
        "HF_HUB_OFFLINE": "1",
    }


def write_keys(folder: Path) -> dict[str, str]:
    """Keys as files of secrets, as containers get them; the headers of a trainer."""
    folder.mkdir()
    for role in ("admin", "trainer", "agent"):
        (folder / f"tickertape_{role}_key").write_text(f"{role}-key-{'0123456789' * 4}\n")
    folder.chmod(0o755)
    return {"Authorization": f"Bearer trainer-key-{'0123456789' * 4}"}


def chat(said: str = "Hi.", **more: Any) -> dict[str, Any]:
    return {"model": "faulty", "messages": [{"role": "user", "content": said}], **more}
