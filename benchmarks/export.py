"""Export beside the bare limit: `python -m benchmarks.export`.

A tape of tool conversations is written to a temporary file: 50 turns of 300 tokens read and 200 sampled, with the words
that they stand for. Then, on one core and slice by slice:

* read the blobs: `SELECT prompt_delta, completion, logprobs` through sqlite3, and nothing done with them: the limit;
* columns: the store to Arrow record batches;
* Arrow, Parquet, NDJSON: the same written out in that format, to nowhere;
* objects: numpy views of each sample, as the client gives them.
"""

import argparse
import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.table import machine, show_table
from tickertape.clients.samples import samples_of
from tickertape.server.store import rollouts, sessions
from tickertape.server.store.filters import SessionFilter
from tickertape.server.store.store import Store
from tickertape.server.trajectories.columns import batch
from tickertape.server.trajectories.formats import Format, write_samples
from tickertape.server.trajectories.options import SampleOptions
from tickertape.server.trajectories.turn import Outcome, Turn

TURNS, READ, SAMPLED = 50, 300, 200
SLICES = 7
_ALL = 2**62


def conversation(number: int) -> Iterator[Turn]:
    rng = np.random.default_rng(number)
    parent: str | None = None
    for seq in range(TURNS):
        yield Turn(
            id=f"{number:016x}{seq:016x}",
            session_id=f"session-{number}",
            parent_id=parent,
            seq=seq,
            created_at=1_700_000_000.0 + seq,
            dialect="chat",
            model="model",
            first_message=2 * seq,
            messages=[
                {"role": "assistant", "content": "word " * (SAMPLED * 3 // 4)},
                {"role": "tool", "tool_call_id": "call", "content": "word " * (READ * 3 // 4)},
            ],
            sampling={"temperature": 1.0, "top_p": 1.0, "max_tokens": 512, "stop_token_ids": [151643, 151645]},
            prompt_delta=rng.integers(0, 151_000, READ, np.int32),
            prompt_spans=[(-1, 0, 2), (2 * seq + 1, 0, 3), (2 * seq + 1, 1, READ - 10), (-1, 0, 5)],
            completion=rng.integers(0, 151_000, SAMPLED, np.int32),
            logprobs=-rng.random(SAMPLED, np.float32),
            versions=[("step-7", SAMPLED)],
            outcome=Outcome.TOOL_CALLS,
            response={"role": "assistant", "content": "word " * (SAMPLED * 3 // 4)},
            usage={"prompt_tokens": 1000, "completion_tokens": SAMPLED},
            context_digest=bytes(32),
        )
        parent = f"{number:016x}{seq:016x}"


async def write_tape(path: Path, n_sessions: int) -> None:
    store = Store(path)
    for number in range(n_sessions):
        for turn in conversation(number):
            await store.commit(turn)
        await store.write(sessions.finish, f"session-{number}", time.time())
    store.close()


def drain(items: Iterable[object]) -> None:
    for _ in items:
        pass


def contenders(path: Path, store: Store) -> dict[str, Callable[[], None]]:
    def batches() -> Iterator[pa.RecordBatch]:
        chosen = store.read_now(
            rollouts.select, SessionFilter(), SampleOptions(), after=0, max_samples=2**31, max_tokens=_ALL
        )
        for session_ids in rollouts.chunks(chosen.sessions):
            yield batch(store.read_now(rollouts.read, session_ids), SampleOptions())

    def limit() -> None:
        connection = sqlite3.connect(path)
        drain(connection.execute("SELECT prompt_delta, completion, logprobs FROM turns ORDER BY session_id, seq"))
        connection.close()

    def written(format_: Format) -> None:
        drain(write_samples(format_, batches(), {}))

    return {
        "read the blobs (the limit)": limit,
        "columns": lambda: drain(batches()),
        "Arrow": lambda: written(Format.ARROW),
        "objects": lambda: drain(sample for part in batches() for sample in samples_of(part)),
        "Parquet, zstd": lambda: written(Format.PARQUET),
        "NDJSON": lambda: written(Format.NDJSON),
    }


def measure(run: Callable[[], None]) -> tuple[float, float]:
    """CPU and wall seconds."""
    cpu, wall = time.thread_time(), time.perf_counter()
    run()
    return time.thread_time() - cpu, time.perf_counter() - wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--markdown", action="store_true")
    given = parser.parse_args()
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tape.db"
        asyncio.run(write_tape(path, given.sessions))
        n_tokens = given.sessions * TURNS * (READ + SAMPLED)
        store = Store(path)
        runs = contenders(path, store)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        for number in range(SLICES + 1):
            for name, run in runs.items():
                taken = measure(run)
                if number:
                    times[name].append(taken)
        store.close()
        size = path.stat().st_size
    best = min(cpu for cpu, _ in times["read the blobs (the limit)"])
    rows = []
    for name, taken in times.items():
        cpu = [seconds for seconds, _ in taken]
        rows.append(
            [
                name,
                f"{n_tokens / statistics.median(cpu) / 1e6:.1f}",
                f"{n_tokens / max(cpu) / 1e6:.1f} – {n_tokens / min(cpu) / 1e6:.1f}",
                f"{n_tokens / min(wall for _, wall in taken) / 1e6:.1f}",
                f"{min(cpu) / best:.1f}",
            ]
        )
    titles = [
        "what",
        "million tokens\nper CPU second",
        "slowest – fastest",
        "per second,\nfastest",
        "of the\nlimit's time",
    ]
    notes = [
        f"{given.sessions} sessions of {TURNS} turns, {READ} + {SAMPLED} tokens each: {n_tokens:,} tokens, a tape of "
        f"{size / 1e6:,.0f} MB in the page cache. One thread. {machine()}."
    ]
    show_table(titles, [rows], notes, markdown=given.markdown)


if __name__ == "__main__":
    main()
