"""What durability costs: `python -m benchmarks.store`, from the root.

Tapes in memory and on disk, with and without a sync at every commit, and on PostgreSQL if its server is installed:

- the store alone: 64 callers commit turns of 60 prompt and 128 sampled tokens, one after the other each, with group
  commit and with one transaction for each turn;
- the whole proxy, asked by 32 connections over the null engine at a context of 2,048 tokens, as in `benchmarks.proxy`:
  all proxies run at once, and are measured in turns, a slice of time each.

"Not written" is a fake whose writer drops what it is given: what is left is Tickertape without a tape. "In memory" is
the same Store and SQLite on a file of a memory file system. "Of memory" compares turns per second with that.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.children import Cores, child, pin
from benchmarks.measure import Contender, Effort, Engine, measure_latency, measure_rate
from benchmarks.proxy import default_tokenizer
from benchmarks.table import machine, show_table
from benchmarks.unwritten import UnwrittenStore
from benchmarks.vocabulary import Vocabulary
from benchmarks.workload import Agent, Context, Session, turns
from tickertape.server.store.durability import Durability, Sync
from tickertape.server.store.store import Store
from tickertape.server.trajectories.turn import Outcome, Turn

CALLERS = 64
MEMORY = "in memory"


@dataclass(frozen=True)
class Tape:
    """One way to keep turns."""

    name: str
    place: str
    sync: Sync
    kind: type[Store] = Store


def turn(number: int, caller: int) -> Turn:
    return Turn(
        id=f"{os.getpid()}-{caller}-{number}-{time.monotonic_ns()}",
        session_id=f"session-{caller}",
        created_at=time.time(),
        dialect="chat",
        model="m",
        outcome=Outcome.STOP,
        messages=[{"role": "user", "content": "What does this output tell you, and which file will you open next?"}],
        response={"role": "assistant", "content": "x" * 500},
        sampling={"max_tokens": 128, "temperature": 1.0, "top_p": 1.0, "stop_token_ids": [151645]},
        prompt_delta=np.arange(60, dtype=np.int32),
        prompt_spans=[(0, 1, 60)],
        completion=np.arange(128, dtype=np.int32),
        logprobs=np.zeros(128, np.float32),
        versions=[(None, 128)],
        context_digest=bytes(32),
    )


async def commit(tape: Tape, batch: int, seconds: float) -> tuple[float, list[float]]:
    """Turns per second, and the seconds that each commit took."""
    store = tape.kind(tape.place, durability=Durability(tape.sync, batch=batch))
    took: list[float] = []

    async def call(caller: int) -> None:
        number = 0
        while time.perf_counter() < until:
            began = time.perf_counter()
            await store.commit(turn(number, caller))
            took.append(time.perf_counter() - began)
            number += 1

    began = time.perf_counter()
    until = began + seconds
    await asyncio.gather(*(call(caller) for caller in range(CALLERS)))
    rate = len(took) / (time.perf_counter() - began)
    await asyncio.to_thread(store.close)
    return rate, took


def alone(tapes: list[Tape], seconds: float) -> Iterator[list[str]]:
    """Rows of the store alone. The slices of tapes alternate, so that what else the machine does meets all of them."""
    cases = [(tape, batch) for tape in tapes for batch in (256, 1)]
    measured: dict[tuple[str, int], tuple[list[float], list[float]]] = {
        (tape.name, batch): ([], []) for tape, batch in cases
    }
    for _ in range(3):
        for tape, batch in cases:
            rate, took = asyncio.run(commit(tape, batch, seconds / 3))
            rates, all_took = measured[tape.name, batch]
            rates.append(rate)
            all_took += took
    memory = statistics.median(measured[MEMORY, 256][0])
    for tape, batch in cases:
        rates, took = measured[tape.name, batch]
        cuts = statistics.quantiles(took, n=100)
        rate = statistics.median(rates)
        how = "group" if batch > 1 else "each turn"
        numbers = [f"{rate:,.0f}", f"{rate / memory:.2f}", f"{1000 * cuts[49]:.1f}", f"{1000 * cuts[98]:.1f}", ""]
        yield [f"store alone, {tape.name}", how, *numbers]


def whole(tapes: list[Tape], folder: Path, effort: Effort) -> Iterator[list[str]]:
    """Rows of the whole proxy."""
    cores, tokenizer = Cores.available(), default_tokenizer()
    pin(os.getpid(), cores.load)
    with ExitStack() as stack:
        log = folder / "engine.log"
        arguments = ("--tokenizer", str(tokenizer))
        engine = stack.enter_context(
            child("benchmarks.null_engine", *arguments, core=cores.engine, ready="/health", log=log)
        )
        contenders = []
        for number, tape in enumerate(tapes):
            module = "tickertape.server" if tape.kind is Store else "benchmarks.unwritten"
            said = ["serve", "--db", tape.place, "--sync", tape.sync.value, "--model", str(tokenizer)]
            said += ["--engine", f"vllm=http://127.0.0.1:{engine.port}"]
            log = folder / f"proxy-{number}.log"
            process = stack.enter_context(child(module, *said, core=cores.proxy, ready="/ready", log=log))
            agent, context = Agent(process.port), Context(Vocabulary(tokenizer), 2048)
            sessions = [Session(agent, context, f"proxied-{n}") for n in range(64)]
            contenders.append(Contender(tape.name, process, turns(sessions)))
        measure_latency(contenders, effort)
        measure_rate(contenders, Engine(engine), effort)
        memory = next(contender.rate for contender in contenders if contender.name == MEMORY)
        for contender in contenders:
            latencies = [f"{1000 * contender.latency(percent):.1f}" for percent in (50, 99)]
            numbers = [f"{contender.rate:,.0f}", f"{contender.rate / memory:.2f}", *latencies]
            yield [f"whole proxy, {contender.name}", "group", *numbers, f"{contender.cpu_per_1000:.2f}"]


@contextmanager
def tapes_in(folder: Path, what: str, postgres: str | None) -> Iterator[list[Tape]]:
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir="/dev/shm") as memory:
        found = [
            Tape("not written", str(folder / f"{what}-none.db"), Sync.NORMAL, UnwrittenStore),
            Tape(MEMORY, f"{memory}/{what}.db", Sync.NORMAL),
            Tape("SQLite, normal", str(folder / f"{what}-normal.db"), Sync.NORMAL),
            Tape("SQLite, full", str(folder / f"{what}-full.db"), Sync.FULL),
        ]
        if postgres is not None:
            found += [Tape("PostgreSQL, full", postgres, Sync.FULL)]
        yield found


def main() -> None:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.store", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--seconds", type=float, default=6, help="for each row")
    options.add_argument("--folder", type=Path, help="where tapes on disk are, on the disk that is meant")
    options.add_argument("--postgres", metavar="URL", help="an empty database; it is filled")
    options.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    given = options.parse_args()
    sections = []
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=given.folder) as made:
        folder = Path(made)
        with tapes_in(folder, "alone", given.postgres) as tapes:
            sections.append(list(alone(tapes, given.seconds)))
        print("the whole proxy …", file=sys.stderr, flush=True)
        with tapes_in(folder, "proxy", given.postgres) as tapes:
            effort = Effort(slices=5, warm_up=0.3, seconds=given.seconds / 4, calls=200)
            sections.append(list(whole(tapes, folder, effort)))
    titles = ["tape", "commits", "turns/s", "of\nmemory", "p50 ms", "p99 ms", "CPU s per\n1,000 turns"]
    show_table(titles, sections, [machine()], markdown=given.markdown)


if __name__ == "__main__":
    main()
