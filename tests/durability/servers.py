"""The processes of a run: servers that are killed and come back on their port, the engine, PostgreSQL."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.children import ROOT, answers, free_port
from tests.materials import qwen3_dir
from tests.postgres import PostgresServer, postgres_running


class Nursery:
    """Starts and kills servers; see `nursery.py`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, **command: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(command), file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@dataclass
class Server:
    """A Tickertape that is killed and started again."""

    nursery: Nursery
    port: int
    arguments: list[str]
    log: Path
    pid: int | None = None
    starts: list[float] = field(default_factory=list)
    """Seconds from a start until it was ready, of those that lived for so long."""
    started_at: float = 0.0
    ended_itself: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        arguments = [*self.arguments, "--port", str(self.port)]
        self.started_at = time.monotonic()
        self.pid = self.nursery.ask(serve=arguments, log=str(self.log))["pid"]

    async def until_ready(self, seconds: float = 60) -> None:
        while not await asyncio.to_thread(answers, self.port, "/ready"):
            if time.monotonic() > self.started_at + seconds:
                raise TimeoutError(f"not ready after {seconds} s:\n{self.log.read_text()[-3000:]}")
            await asyncio.sleep(0.02)
        self.starts.append(time.monotonic() - self.started_at)

    def kill(self) -> None:
        """kill -9; returns when it is dead."""
        if self.pid is None:
            return
        self.ended_itself += self.nursery.ask(kill=self.pid)["signal"] != signal.SIGKILL
        self.pid = None


@dataclass
class Site:
    """All that is there."""

    servers: list[Server]
    engine_url: str
    postgres: PostgresServer | None


@contextmanager
def site(folder: Path, store: str, replicas: int = 1, *arguments: str) -> Iterator[Site]:
    """Starts an engine, a database if need be, and what starts servers; no server yet.

    Args:
        folder: for the tape and the logs.
        store: ``sqlite`` or ``postgresql``.
        replicas: servers on the one tape.
        arguments: of the servers.
    """
    with ExitStack() as stack:
        engine_url = stack.enter_context(telling("tests.durability.engine", log=folder / "engine.log"))[1]
        nursery = Nursery(stack.enter_context(telling("tests.durability.nursery", log=folder / "nursery.log"))[0])
        postgres = None
        place = str(folder / "tape.db")
        if store == "postgresql":
            postgres = stack.enter_context(postgres_running(durable=True))
            place = stack.enter_context(postgres.database())
        given = ["--db", place, "--engine", f"vllm={engine_url}", "--model", str(qwen3_dir()), "--renderer", "qwen3"]
        servers = [
            Server(nursery, free_port(), [*given, "--no-access-log", *arguments], folder / f"server-{number}.log")
            for number in range(replicas)
        ]
        yield Site(servers, engine_url, postgres)


@contextmanager
def telling(module: str, *arguments: str, log: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Runs `python -m module …` until the block ends: the process, and the line that it says when it is ready. It ends
    when its standard input does."""
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line, f"{module} ended:\n{log.read_text()}"
        yield process, line
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()  # type: ignore[union-attr]
