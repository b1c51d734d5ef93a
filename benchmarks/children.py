"""Processes of a run: started on a core, watched through /proc, and ended by the one that started them."""

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TICKS = os.sysconf("SC_CLK_TCK")


class ChildFailedError(RuntimeError):
    """A process ended early or did not become ready; the text holds the end of its output."""


@dataclass(frozen=True)
class Cores:
    """Who runs where. The proxy under test has a core to itself; engine and load share one if there are only two."""

    proxy: int
    engine: int
    load: int

    @classmethod
    def available(cls) -> "Cores":
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
        return cls(proxy=cores[0], engine=cores[1 % len(cores)], load=cores[-1])


def pin(pid: int, core: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, {core})


@dataclass(frozen=True)
class Child:
    """A running process that listens on `port`."""

    pid: int
    port: int

    def cpu_seconds(self) -> float:
        """User and system time of all its threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident_bytes(self) -> int:
        pages = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def child(
    module: str,
    *arguments: str,
    core: int | None,
    ready: str,
    log: Path,
    timeout: float = 60,
    python: str = sys.executable,
) -> Iterator[Child]:
    """Run `python -m module … --port P` from the moment when GET `ready` answers 200 until the block ends.

    It has the core, or any if that is `None`. Its output goes to `log`, and into the exception if it fails. `python` is
    the interpreter, of another environment for a peer.
    """
    port = free_port()
    command: Sequence[str] = (python, "-m", module, *arguments, "--port", str(port))
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        if core is not None:
            pin(process.pid, core)
        deadline = time.monotonic() + timeout
        while not answers(port, ready):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ChildFailedError(f"{module} is not ready (exit code {process.poll()}):\n{tail(log)}")
            time.sleep(0.05)
        yield Child(process.pid, port)
        if process.poll() is not None:
            raise ChildFailedError(f"{module} ended with exit code {process.poll()}:\n{tail(log)}")
    finally:
        stop(process)


def stop(process: "subprocess.Popen[bytes]", grace: float = 10) -> None:
    process.terminate()
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def tail(log: Path, size: int = 3000) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-size:]
