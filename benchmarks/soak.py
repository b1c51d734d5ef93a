"""Whether a server that runs for long grows: `python -m benchmarks.soak`, from the root.

Sessions churn over HTTP: each is created, takes some turns over one of the four protocols, whole and streamed, with
tools; some clients leave in the middle of an answer; then it is rewarded and finished, discarded, or left alone until
the server finishes it. A trainer leases what is finished; what is older than a minute is dropped. As many begin as end.
Memory, open files and asyncio tasks are those that the server's `/metrics` tells.

The first part is warm-up: caches fill. After it, the median of the memory in the last
quarter may be `--tolerance` above (or below) that in the first, and open files and tasks likewise, or ten more. When
all clients have gone, the server must have the tasks that it had before they came, and no more files open than the
tape's connections. The exit code is 1 if it grew.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.children import child, tail
from benchmarks.table import machine, show_table
from tests.durability.protocols import DIALECTS, Dialect, Item, events_of
from tests.durability.servers import telling
from tests.materials import qwen3_dir
from tickertape.clients import AsyncTrajectoryClient

ROWS = 12
#: How the server is served: what the tape keeps is bounded.
SETTINGS = ("--replay-window", "60", "--keep-days", f"{60 / 86_400:.6f}", "--keep-every", "10")
#: Five connections of three files each.
TAPE_FILES = 15
#: Seconds after the last client in which all must be gone. Connections to the engine are kept for 30, and looked at as
#: often: one may stay for 60.
_PATIENCE = 90
TASKS, FILES, MEMORY = "tickertape_asyncio_tasks", "process_open_fds", "process_resident_memory_bytes"
SHOWN = (MEMORY, FILES, TASKS, "tickertape_live_sessions", "tickertape_live_turns")


@dataclass(frozen=True)
class Plan:
    """A run."""

    minutes: float = 60
    sessions: int = 2000
    rate: float = 40
    """Turns a second, of all sessions."""
    warm_up: float = 0.3
    """Of the time."""
    tolerance: float = 0.05
    seed: int = 0

    @property
    def pause(self) -> float:
        """Mean seconds between two requests of a session; none waits for more than twice that."""
        return self.sessions / self.rate


@dataclass
class Sample:
    """A look at the server."""

    minute: float
    values: dict[str, float]


@dataclass
class Soak:
    """A run under way."""

    plan: Plan
    url: str
    done: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    idle: list[Sample] = field(default_factory=list)
    """Before the first client, and after the last."""

    async def run(self) -> None:
        async with aiohttp.ClientSession(self.url) as http, AsyncTrajectoryClient(self.url) as tape:
            self._began = time.monotonic()
            await asyncio.sleep(2)
            self.idle.append(await self._look(http))
            chance = random.Random(self.plan.seed)
            working = [asyncio.create_task(self._agent(tape, random.Random(chance.random()))) for _ in self._all()]
            working.append(asyncio.create_task(self._trainer(tape)))
            try:
                while (minute := self._minute()) < self.plan.minutes:
                    await asyncio.sleep(min(5, 60 * (self.plan.minutes - minute)))
                    if failed := [task for task in working if task.done()]:
                        failed[0].result()
                    self.samples.append(await self._look(http))
            finally:
                for task in working:
                    task.cancel()
                await asyncio.gather(*working, return_exceptions=True)
        async with aiohttp.ClientSession(self.url) as http:
            self.idle.append(await self._look(http))
            gone = time.monotonic()
            while self._left() and time.monotonic() < gone + _PATIENCE:
                await asyncio.sleep(2)
                self.idle[1] = await self._look(http)

    def _all(self) -> range:
        return range(self.plan.sessions)

    def _minute(self) -> float:
        return (time.monotonic() - self._began) / 60

    async def _look(self, http: aiohttp.ClientSession) -> Sample:
        async with http.get("/metrics") as answer:
            families = text_string_to_metric_families(await answer.text())
            return Sample(self._minute(), {each.name: each.value for family in families for each in family.samples})

    # Agents.

    async def _agent(self, tape: AsyncTrajectoryClient, chance: random.Random) -> None:
        """One session after another."""
        await asyncio.sleep(chance.uniform(0, self.plan.pause))
        while True:
            session_id = uuid.UUID(int=chance.getrandbits(128)).hex
            await tape.create_session(session_id, task_id=f"task {chance.randrange(50)}")
            async with aiohttp.ClientSession(self.url, timeout=aiohttp.ClientTimeout(60)) as http:
                await self._rollout(http, session_id, chance.choice(DIALECTS), chance)
            self.done["sessions"] += 1
            match chance.random():
                case low if low < 0.1:
                    continue  # left alone
                case low if low < 0.15:
                    await tape.discard(session_id)
                case _:
                    await tape.reward(session_id, chance.random())
                    await tape.finish(session_id)

    async def _rollout(
        self, http: aiohttp.ClientSession, session_id: str, dialect: Dialect, chance: random.Random
    ) -> None:
        history: list[Item] = [dialect.user(f"Task {chance.random()}")]
        for _ in range(chance.randint(2, 10)):
            streamed = chance.random() < 0.5
            body = {"model": "faulty", **dialect.body(history, session_id), "stream": streamed}
            path = f"/sessions/{session_id}/v1/{dialect.path}"
            leaves = aiohttp.ClientTimeout(chance.uniform(0, 0.1)) if chance.random() < 0.03 else None
            with suppress(TimeoutError):
                async with http.post(path, json=body, timeout=leaves or http.timeout) as response:
                    got = await response.read()
                    if response.status == 409:  # it was silent for so long that the server has finished it
                        self.done["too late"] += 1
                        return
                    if response.status != 200:
                        raise RuntimeError(f"{response.status}: {got!r:.500}")
                answer = dialect.gathered(events_of(got)) if streamed else json.loads(got)
                if answer is None:
                    raise RuntimeError(f"a stream that ends early: {got[-500:]!r}")
                said = dialect.read(answer)
                results = [dialect.result(call_id, f"{chance.random()} " * 20) for call_id in said.call_ids]
                history += [*said.items, *(results or [dialect.user(f"And {chance.random()}?")])]
            self.done["turns"] += 1
            await asyncio.sleep(chance.uniform(0, 2 * self.plan.pause))

    async def _trainer(self, tape: AsyncTrajectoryClient) -> None:
        while True:
            async for lease in tape.leases("trainer", limit=64):
                self.done["samples"] += len(lease.samples)
            await asyncio.sleep(1)

    # What it came to.

    def steady(self) -> tuple[list[Sample], list[Sample]]:
        """The first and the last quarter after the warm-up."""
        warm = [each for each in self.samples if each.minute >= self.plan.warm_up * self.plan.minutes]
        quarter = max(len(warm) // 4, 1)
        return warm[:quarter], warm[-quarter:]

    def growth(self, name: str) -> float:
        """By which share it is more at the end than after the warm-up."""
        first, last = (_median(part, name) for part in self.steady())
        return last / first - 1

    def findings(self) -> list[str]:
        """What grew."""
        tolerance, (first, last), found = self.plan.tolerance, self.steady(), self._left()
        if abs(self.growth(MEMORY)) > tolerance:
            found.append(f"resident memory changed by {100 * self.growth(MEMORY):+.1f} %")
        for name in (FILES, TASKS):
            more = _median(last, name) - _median(first, name)
            if more > max(10, tolerance * _median(first, name)):
                found.append(f"{name} grew by {more:.0f} under the same load")
        return found

    def _left(self) -> list[str]:
        """What the clients that have gone left behind."""
        (before, after), found = self.idle, []
        if (more := after.values[TASKS] - before.values[TASKS]) > 0:
            found.append(f"{more:.0f} tasks are left")
        if (more := after.values[FILES] - before.values[FILES]) > TAPE_FILES:
            found.append(f"{more:.0f} files are left open")
        return found

    def rows(self) -> list[list[str]]:
        at = [round(k * (len(self.samples) - 1) / (ROWS - 1)) for k in range(ROWS)]
        parts = [
            ("idle", self.idle[0]),
            *(("load", self.samples[k]) for k in dict.fromkeys(at)),
            ("idle", self.idle[1]),
        ]
        return [[f"{sample.minute:.1f}", what, *_shown(sample)] for what, sample in parts]


def _shown(sample: Sample) -> list[str]:
    memory, *others = (sample.values[name] for name in SHOWN)
    return [f"{memory / 2**20:.1f}", *(f"{value:,.0f}" for value in others)]


def _median(samples: Sequence[Sample], name: str) -> float:
    return statistics.median(sample.values[name] for sample in samples)


def play(plan: Plan, folder: Path) -> Soak:
    """Runs it against a server of its own, whose tape is in the folder."""
    log = folder / "server.log"
    with telling("tests.durability.engine", "--forget", log=folder / "engine.log") as (_, engine):
        arguments = ["serve", "--db", str(folder / "tape.db"), "--engine", f"vllm={engine}", "--no-access-log"]
        arguments += ["--model", str(qwen3_dir()), "--renderer", "qwen3", *SETTINGS]
        arguments += ["--finish-idle", f"{max(5, 3 * plan.pause):.0f}"]
        with child("tickertape.server.commands.cli", *arguments, core=None, ready="/ready", log=log) as server:
            soak = Soak(plan, f"http://127.0.0.1:{server.port}")
            try:
                asyncio.run(soak.run())
            except RuntimeError:
                print(tail(log), file=sys.stderr)
                raise
            return soak


def main() -> None:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--minutes", type=float, default=Plan.minutes)
    options.add_argument("--sessions", type=int, default=Plan.sessions, help="at once")
    options.add_argument("--rate", type=float, default=Plan.rate, help="turns a second, of all sessions")
    options.add_argument("--warm-up", type=float, default=Plan.warm_up, help="share of the time")
    options.add_argument("--tolerance", type=float, default=Plan.tolerance, help="share that memory may change by")
    options.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    given = vars(options.parse_args())
    markdown = given.pop("markdown")
    with tempfile.TemporaryDirectory(prefix="soak-") as made:
        soak = play(Plan(**given), Path(made))
    plan, done = soak.plan, soak.done
    titles = ["minute", "", "resident\nMB", "open\nfiles", "tasks", "live\nsessions", "live\nturns"]
    notes = [machine(), f"{plan.sessions} sessions at once; {done['sessions']:,} ended, {done['turns']:,} turns, "]
    notes[-1] += f"{done['samples']:,} samples leased; memory {100 * soak.growth(MEMORY):+.1f} % after the warm-up"
    show_table(titles, [soak.rows()], [*notes, *(f"GREW: {each}" for each in soak.findings())], markdown=markdown)
    raise SystemExit(bool(soak.findings()))


if __name__ == "__main__":
    main()
