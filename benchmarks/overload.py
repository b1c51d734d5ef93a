"""What happens at many times the capacity: `python -m benchmarks.overload --seconds 300 --times 10`, from the root.

The engine is a fake one (`null_engine.py`) that takes 0.2 s for every completion and gets 8 at once: 40 turns a second,
with 20 more waiting. Agents in processes of their own come at a fixed rate, whether they are answered or not (an open
loop): first at half the capacity, then at `--times` it for `--seconds`, then at half of it again. Each goes through
conversations of up to 6 turns; a refused call is not repeated, its session goes on with the next arrival.

It fails unless

- refused calls are answered in 100 ms (p99), all with `Retry-After`, and nothing but 200 and 429 is answered;
- accepted calls are as many as the capacity, and wait no longer than the queue is long (p99, with a margin);
- memory stays where it is after the first tenth of the overload;
- a second after the overload, calls take as long as before it;
- the tape holds what it must: every accepted turn (DURABLE), PREFIX, ONCE, VERBATIM against the digests of what the
  engine was asked, and the number of calls that each session was refused.
"""

import argparse
import asyncio
import itertools
import multiprocessing
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import orjson

from benchmarks.children import Child, child
from benchmarks.null_engine import digest
from benchmarks.proxy import default_tokenizer
from benchmarks.table import machine, show_table
from tickertape.clients import TrajectoryClient, Turn
from tickertape.clients.tape import stream

COMPLETION_SECONDS = 0.2
AT_ONCE = 8
QUEUE = 20
CAPACITY = AT_ONCE / COMPLETION_SECONDS
TURNS = 6
#: Sessions whose tape is read in the end; of more of them, every n-th.
CHECKED = 400


@dataclass(frozen=True)
class Plan:
    """How much for how long."""

    seconds: float
    times: float
    calm: float = 4.0
    """Seconds at half the capacity, before and after."""
    loaders: int = 2


@dataclass(frozen=True, slots=True)
class Heard:
    """One call, as its agent saw it."""

    at: float
    """When it was sent; seconds of ``time.time``."""
    seconds: float
    status: int
    session: str
    turn_id: str
    retry_after: str


class Agent:
    """A conversation."""

    def __init__(self, session: str) -> None:
        self.session = session
        self.turns = 0
        self.messages: list[dict[str, Any]] = []
        self.ask()

    def ask(self) -> None:
        question = f"Question {self.turns} of {self.session}: which file will you open next, and why?"
        self.messages.append({"role": "user", "content": question})

    def heard(self, message: dict[str, Any]) -> None:
        self.turns += 1
        self.messages.append({key: value for key, value in message.items() if value is not None})
        self.ask()


def load(port: int, name: str, rate: float, seconds: float) -> list[Heard]:
    """Calls at a fixed rate, in this process."""
    return asyncio.run(_load(port, name, rate, seconds))


async def _load(port: int, name: str, rate: float, seconds: float) -> list[Heard]:
    heard: list[Heard] = []
    free: deque[Agent] = deque()
    numbers = itertools.count()
    calls: set[asyncio.Task[None]] = set()
    url = f"http://127.0.0.1:{port}"
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=3)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(60)) as http:

        async def call(agent: Agent) -> None:
            body = orjson.dumps({"model": "null", "messages": agent.messages, "max_tokens": 128})
            path = f"{url}/sessions/{agent.session}/v1/chat/completions"
            at, began = time.time(), time.perf_counter()
            async with http.post(path, data=body, headers={"content-type": "application/json"}) as answer:
                said = await answer.read()
                took = time.perf_counter() - began
                headers = answer.headers
            turn_id, after = headers.get("X-Turn-Id", ""), headers.get("Retry-After", "")
            heard.append(Heard(at, took, answer.status, agent.session, turn_id, after))
            if answer.status == 200:
                agent.heard(orjson.loads(said)["choices"][0]["message"])
            if agent.turns < TURNS:
                free.append(agent)

        start = time.perf_counter()
        for number in range(int(rate * seconds)):
            if (wait := start + number / rate - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            agent = free.popleft() if free else Agent(f"{name}-{next(numbers)}")
            task = asyncio.create_task(call(agent))
            calls.add(task)
            task.add_done_callback(calls.discard)
        if calls:
            await asyncio.gather(*calls)
    return heard


@dataclass
class Phase:
    """Calls at one rate."""

    name: str
    rate: float
    seconds: float
    heard: list[Heard] = field(default_factory=list)

    def of(self, status: int, *, after: float = 0) -> list[Heard]:
        """Calls with a status that were sent so many seconds after the first, or later."""
        first = min(call.at for call in self.heard)
        return [call for call in self.heard if call.status == status and call.at - first >= after]

    def row(self) -> list[str]:
        accepted, refused = self.of(200), self.of(429)
        return [
            self.name,
            f"{self.rate:.0f}",
            f"{len(self.heard):,}",
            f"{len(accepted) / self.seconds:.1f}",
            *(f"{1000 * quantile(accepted, percent):.0f}" for percent in (50, 99)),
            f"{len(refused):,}",
            *(f"{1000 * quantile(refused, percent):.1f}" if refused else "" for percent in (50, 99)),
            f"{1000 * max(call.seconds for call in refused):.0f}" if refused else "",
        ]


def quantile(calls: list[Heard], percent: int) -> float:
    if len(calls) < 2:
        return calls[0].seconds if calls else float("nan")
    return statistics.quantiles([call.seconds for call in calls], n=100, method="inclusive")[percent - 1]


@dataclass
class Result:
    """What was measured and found."""

    phases: list[Phase]
    memory: list[tuple[float, int]]
    """Seconds into the overload, resident bytes of the proxy."""
    tape: Counter[str]
    failures: list[str]


@contextmanager
def stage(tokenizer: Path) -> Iterator[tuple[Child, Child]]:
    """Engine and proxy."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="overload-")))
        arguments = ["--tokenizer", str(tokenizer), "--seconds", str(COMPLETION_SECONDS)]
        engine = child("benchmarks.null_engine", *arguments, core=None, ready="/health", log=scratch / "engine.log")
        running = stack.enter_context(engine)
        arguments = ["serve", "--db", str(scratch / "tape.db"), "--engine", f"vllm=http://127.0.0.1:{running.port}"]
        arguments += ["--model", str(tokenizer), "--engine-limit", str(AT_ONCE), "--queue-limit", str(QUEUE)]
        proxy = child(
            "tickertape.server.commands.cli", *arguments, core=None, ready="/ready", log=scratch / "proxy.log"
        )
        yield running, stack.enter_context(proxy)


def run(plan: Plan, tokenizer: Path) -> Result:
    """All phases, and what became of them."""
    phases = [
        Phase("before", CAPACITY / 2, plan.calm),
        Phase(f"{plan.times:g} times the capacity", CAPACITY * plan.times, plan.seconds),
        Phase("after", CAPACITY / 2, plan.calm),
    ]
    memory: list[tuple[float, int]] = []
    spawn = multiprocessing.get_context("spawn")
    with stage(tokenizer) as (engine, proxy), ProcessPoolExecutor(plan.loaders, mp_context=spawn) as loaders:
        list(loaders.map(time.sleep, [0.5] * plan.loaders))  # they are started
        for number, phase in enumerate(phases):
            rate = phase.rate / plan.loaders
            loads = [
                loaders.submit(load, proxy.port, f"s{number}-{k}", rate, phase.seconds) for k in range(plan.loaders)
            ]
            began = time.monotonic()
            while not all(done.done() for done in loads):
                time.sleep(0.25)
                if number == 1:
                    memory.append((time.monotonic() - began, proxy.resident_bytes()))
            phase.heard = _together(loads)
        time.sleep(1.5)  # refusals are put on the tape once a second
        result = Result(phases, memory, Counter(), [])
        check_times(result, plan)
        check_tape(result, engine, proxy)
    return result


def _together(loads: "list[Future[list[Heard]]]") -> list[Heard]:
    return sorted(itertools.chain.from_iterable(done.result() for done in loads), key=lambda call: call.at)


def check_times(result: Result, plan: Plan) -> None:
    """Who was refused heard it at once, who was accepted was served, memory is bounded, and afterwards all is well."""
    before, overload, after = result.phases
    failures = result.failures
    statuses = Counter(call.status for phase in result.phases for call in phase.heard)
    if set(statuses) - {200, 429}:
        failures.append(f"other answers than 200 and 429: {dict(statuses)}")
    refused, accepted = overload.of(429), overload.of(200)
    if not refused or quantile(refused, 99) >= 0.1:
        failures.append(f"refused calls heard it after {1000 * quantile(refused, 99):.0f} ms (p99)")
    if any(not call.retry_after for call in refused):
        failures.append("a refused call was not told when to come again")
    if len(accepted) < 0.85 * CAPACITY * plan.seconds:
        failures.append(f"{len(accepted)} calls were accepted, the capacity is {CAPACITY * plan.seconds:.0f}")
    longest = COMPLETION_SECONDS + QUEUE / CAPACITY
    if quantile(accepted, 99) > 1.5 * longest + 0.25:
        failures.append(f"accepted calls took {quantile(accepted, 99):.2f} s (p99), the queue is {longest:.2f} s long")
    settled = [resident for at, resident in result.memory if at > plan.seconds / 10]
    if settled and max(settled[len(settled) // 2 :]) > 1.15 * max(settled[: len(settled) // 2]) + 2**24:
        failures.append(f"memory grew from {settled[0] / 2**20:.0f} to {max(settled) / 2**20:.0f} MB")
    recovered = after.of(200, after=1.0)
    if quantile(recovered, 95) > 1.3 * quantile(before.of(200), 95) + 0.05 or after.of(429, after=1.0):
        failures.append(f"a second later calls still took {quantile(recovered, 95):.2f} s (p95)")


def check_tape(result: Result, engine: Child, proxy: Child) -> None:
    """DURABLE, PREFIX, ONCE, VERBATIM, and that refusals are accounted for."""
    from tests.server.invariants import check_once, check_prefix

    asked = Counter(httpx.get(f"http://127.0.0.1:{engine.port}/prompts").json())
    accepted: dict[str, set[str]] = {}
    refused: Counter[str] = Counter()
    for call in itertools.chain.from_iterable(phase.heard for phase in result.phases):
        accepted.setdefault(call.session, set()).update([call.turn_id] if call.status == 200 else [])
        refused[call.session] += call.status == 429
    sessions = sorted(accepted)[:: max(1, len(accepted) // CHECKED)]
    with TrajectoryClient(f"http://127.0.0.1:{proxy.port}") as tape:
        for session in sessions:
            turns = tape.turns(session)
            sampled = [turn for turn in turns if turn.outcome != "rejected"]
            result.tape.update(turn.outcome for turn in turns)
            missing = accepted[session] - {turn.id for turn in turns}
            if missing:
                result.failures.append(f"{session}: accepted turns are not on the tape: {missing}")
            try:
                check_prefix(turns)
                check_once(tape, session)
            except AssertionError as error:
                result.failures.append(f"{session}: PREFIX or ONCE: {error}")
            by_id = {turn.id: turn for turn in turns}
            for turn in sampled:
                prompt = stream(turn, by_id)[: -len(turn.completion)].tolist()
                if not asked[digest(orjson.dumps(prompt))]:
                    result.failures.append(f"{session}: turn {turn.id} was not what the engine was asked")
            if (noted := sum(map(_calls_of, turns))) != refused[session]:
                result.failures.append(f"{session}: {refused[session]} calls were refused, the tape says {noted}")
    result.tape["sessions"] = len(sessions)
    result.tape["calls refused"] = sum(refused[session] for session in sessions)


def _calls_of(turn: Turn) -> int:
    """How many refused calls a turn stands for."""
    if turn.outcome != "rejected":
        return 0
    first, _, rest = (turn.error or "").partition(" calls within ")
    return int(first) if rest else 1


def show(result: Result, *, markdown: bool) -> None:
    titles = [
        "",
        "calls/s",
        "calls",
        "accepted/s",
        "accepted\np50 ms",
        "p99 ms",
        "refused",
        "refused\np50 ms",
        "p99 ms",
    ]
    notes = [machine(), f"capacity {CAPACITY:g} turns/s: {AT_ONCE} at once of {COMPLETION_SECONDS} s, {QUEUE} waiting"]
    sizes = [resident / 2**20 for _, resident in result.memory]
    half = sizes[: len(sizes) // 2]
    notes.append(f"memory in the overload: at most {max(half):.0f} MB in its first half, {max(sizes):.0f} MB in all")
    notes.append("tape, of what was read: " + ", ".join(f"{count:,} {name}" for name, count in result.tape.items()))
    show_table([*titles, "max ms"], [[phase.row() for phase in result.phases]], notes, markdown=markdown)


def main() -> None:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.overload", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--seconds", type=float, default=300, help="of overload")
    options.add_argument("--times", type=float, default=10, help="the capacity")
    options.add_argument("--tokenizer", type=Path, help="directory with tokenizer.json and a chat template")
    options.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    given = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave every `with`, so that no child is left behind
    result = run(Plan(given.seconds, given.times), given.tokenizer or default_tokenizer())
    show(result, markdown=given.markdown)
    for failure in result.failures[:20]:
        print(f"FAILED: {failure}")
    sys.exit(1 if result.failures else 0)


if __name__ == "__main__":
    main()
