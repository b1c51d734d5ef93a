"""How long a server takes to start on a large tape: `python -m benchmarks.large_tape`, from the root.

The tape is written by SQL: a million turns of 200 prompt and 100 sampled tokens in 20,000 sessions unless told
otherwise, each turn going on from the one before it. Then `tickertape serve` is started on it, once after a clean end
and once after a kill -9, and the time until `/ready` answers is shown, beside that of an empty tape: what it takes more
is the tape's. "CPU s" is what the process has used by then, "s to an answer" when a first call has come back. "Of these
the tape" is the same opening and looking at the tape alone, in a process that runs already.
"""

import argparse
import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from urllib.request import Request, urlopen

from benchmarks.children import ROOT, Child, answers, child, free_port, stop
from benchmarks.null_engine import MODEL
from benchmarks.proxy import default_tokenizer
from benchmarks.table import machine, show_table
from tickertape.server.store.recovery import recover
from tickertape.server.store.store import Store
from tickertape.server.trajectories.turn import Outcome, Turn

_FILL = """
INSERT INTO sessions (id, created_at, active_at, turns, next_seq, prompt_tokens, completion_tokens, stored_bytes)
WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < :sessions)
SELECT 'large-' || n, n, n, :turns, :turns, 200 * :turns, 100 * :turns, 2000 * :turns FROM number
"""
_TURNS = """
WITH RECURSIVE place(seq) AS (SELECT 0 UNION ALL SELECT seq + 1 FROM place WHERE seq < :turns - 1)
INSERT INTO turns ({columns}) SELECT {values} FROM sessions AS s, place, turns AS t
WHERE t.id = 'pattern' AND s.id LIKE 'large-%'
"""
_OWN = {
    "session_id": "s.id",
    "seq": "place.seq",
    "id": "s.id || '-' || place.seq",
    "parent_id": "CASE WHEN place.seq > 0 THEN s.id || '-' || (place.seq - 1) END",
}


def fill(path: Path, sessions: int, turns: int) -> None:
    """Writes ``sessions`` sessions of ``turns`` turns each."""
    import numpy as np

    pattern = Turn(
        id="pattern", session_id="pattern", created_at=1.0, dialect="chat", model="m", outcome=Outcome.STOP,
        messages=[{"role": "user", "content": "x" * 400}], response={"role": "assistant", "content": "y" * 400},
        prompt_delta=np.arange(200, dtype=np.int32), prompt_spans=[(0, 1, 200)],
        completion=np.arange(100, dtype=np.int32), logprobs=np.zeros(100, np.float32), versions=[(None, 100)],
        context_digest=os.urandom(16),
    )  # fmt: skip

    async def begin() -> None:
        store = Store(path)
        await store.commit(pattern)
        store.close()

    asyncio.run(begin())
    with closing(sqlite3.connect(path, isolation_level=None)) as tape:
        tape.execute("PRAGMA synchronous = OFF")
        tape.execute("BEGIN")
        tape.execute(_FILL, {"sessions": sessions, "turns": turns})
        columns = [row[1] for row in tape.execute("PRAGMA table_info(turns)")]
        values = [_OWN.get(name, f"t.{name}") for name in columns]
        tape.execute(_TURNS.format(columns=", ".join(columns), values=", ".join(values)), {"turns": turns})
        tape.execute("COMMIT")


def starting(path: Path, engine: int, *, kill: bool) -> tuple[float, float, float, str]:
    """Seconds until a server on the tape is ready, its CPU seconds until then, seconds until it has answered a first
    call, and what it said of the tape."""
    port = free_port()
    arguments = ["serve", "--db", str(path), "--engine", f"vllm=http://127.0.0.1:{engine}", "--port", str(port)]
    command = [sys.executable, "-m", "tickertape.server", *arguments, "--model", str(default_tokenizer())]
    log = path.with_suffix(".log")
    with log.open("wb") as output:
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
    while not answers(port, "/ready"):
        if process.poll() is not None:
            raise SystemExit(log.read_text())
        time.sleep(0.01)
    seconds, used = time.monotonic() - began, Child(process.pid, port).cpu_seconds()
    call(port)
    answered = time.monotonic() - began
    if kill:
        process.send_signal(signal.SIGKILL)
        process.wait()
    else:
        stop(process)
    return seconds, used, answered, log.read_text()


def call(port: int) -> None:
    """One turn, taken and committed."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello."}]}
    request = Request(f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    request.add_header("Authorization", "Bearer any")
    with urlopen(request, timeout=60) as answer:
        answer.read()


def opening(path: Path) -> float:
    """Seconds to open a tape and to look at it, in this process."""

    async def run() -> float:
        began = time.monotonic()
        store = Store(path, serving=True)
        await recover(store)
        seconds = time.monotonic() - began
        store.close()  # as after a kill: the run has no end
        return seconds

    return asyncio.run(run())


def main() -> None:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.large_tape",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--sessions", type=int, default=20_000)
    options.add_argument("--turns", type=int, default=50, help="of each session")
    options.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as made:
        folder = Path(made)
        began = time.monotonic()
        fill(folder / "large.db", given.sessions, given.turns)
        size = (folder / "large.db").stat().st_size / 2**30
        print(f"filled in {time.monotonic() - began:.0f} s: {size:.1f} GiB", file=sys.stderr, flush=True)
        tokenizer = str(default_tokenizer())
        with child(
            "benchmarks.null_engine", "--tokenizer", tokenizer, core=None, ready="/health", log=folder / "engine.log"
        ) as engine:
            rows = []
            cases = [("empty", "new", False), ("empty", "stopped", True), ("empty", "killed", False)]
            cases += [("large", "stopped", True), ("large", "killed", False)]
            for name, before, kill in cases:
                seconds, used, answered, said = starting(folder / f"{name}.db", engine.port, kill=kill)
                turns = given.sessions * given.turns + 1 if name == "large" else 0
                tape = opening(folder / f"{name}.db")
                rows.append([f"{turns:,}", before, *(f"{each:.2f}" for each in (used, seconds, answered, tape))])
    show_table(
        ["turns", "the server before", "CPU s", "s to /ready", "s to an\nanswer", "of these\nthe tape"],
        [rows],
        [machine()],
        markdown=given.markdown,
    )
    print(said)


if __name__ == "__main__":
    main()
