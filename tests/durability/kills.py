"""kill -9 at random moments under load: `python -m tests.durability.kills`, from the root.

Agents hold conversations over all four protocols with servers that are killed again and again and come back on their
port; what they were about to hear they ask for again, byte for byte. Afterwards every session on tape is checked:

- DURABLE: every answer that was heard whole, a stream to its last event, is on tape, as it was heard;
- VERBATIM: prompts, tokens and logprobs are those that the engine was sent and sent itself;
- PREFIX, ONCE, places without gap;
- no request that was committed was sampled again for its retry.

With `--replicas 2` each request goes to any of two servers, of which one is killed at a time. On PostgreSQL the
database is killed too, every `--postgres-every` kills. Ctrl-C ends a run early, with its checks.
"""

import argparse
import asyncio
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from benchmarks.table import machine
from tests.durability.agents import Agent, Ledger
from tests.durability.checks import Verdict, check_tape, engine_record
from tests.durability.servers import Server, Site, site

#: Seconds that a server on a busy machine gets for the answers before its kill.
_PATIENCE = 10.0


@dataclass(frozen=True)
class Plan:
    """A run."""

    kills: int
    agents: int = 64
    store: str = "sqlite"
    replicas: int = 1
    life: float = 0.5
    """Mean seconds between a server's readiness and its kill, beside the time that it may have for some answers."""
    postgres_every: int = 0
    """Kill the database with each so-many-th server; 0: never."""
    seed: int = 0


@dataclass
class Result:
    """What a run came to."""

    seconds: float
    ledger: Ledger
    verdict: Verdict
    servers: Sequence[Server]
    kills: int = 0
    """Of servers; one in twenty while it started."""
    postgres_starts: list[float] = field(default_factory=list)

    @property
    def findings(self) -> list[str]:
        ended = sum(server.ended_itself for server in self.servers)
        return [
            *self.ledger.findings,
            *self.verdict.findings,
            *([f"{ended} servers ended themselves"] if ended else []),
        ]

    def lines(self) -> list[str]:
        """The result, for a reader."""
        heard, verdict = self.ledger.heard, self.verdict
        starts = sorted(seconds for server in self.servers for seconds in server.starts)
        again = [each for each in heard if each.tries > 1]
        lines = [
            f"answers heard whole   {len(heard)}, of them streamed {sum(each.streamed for each in heard)}",
            f"broken tries          {self.ledger.broken.total()}: {dict(self.ledger.broken.most_common())}",
            f"heard after retries   {len(again)}, from the tape {sum(each.replayed for each in again)}",
            f"on tape               {verdict.sessions} sessions, {verdict.turns} turns, {verdict.tokens} tokens",
            f"outcomes              {dict(verdict.outcomes.most_common())}",
            f"start to ready        median {statistics.median(starts):.2f} s, longest {starts[-1]:.2f} s",
            f"violations            {len(self.findings)}",
        ]
        if self.postgres_starts:
            lines.insert(-1, f"PostgreSQL killed      {len(self.postgres_starts)} times")
        return lines


async def run(plan: Plan, place: Site) -> Result:
    """Kills as planned, lets the agents end what they began, and checks the tape."""
    ledger, chance = Ledger(), random.Random(plan.seed)
    began = time.monotonic()
    for server in place.servers:
        server.start()
    await asyncio.gather(*(server.until_ready() for server in place.servers))
    stopping = asyncio.Event()
    result = Result(0, ledger, Verdict(), place.servers)
    timeout = aiohttp.ClientTimeout(total=60)
    connections = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connections) as http:
        urls = [server.url for server in place.servers]
        agents = [Agent(http, urls, ledger, random.Random(f"{plan.seed} {k}")) for k in range(plan.agents)]
        talking = [asyncio.create_task(agent.run(stopping)) for agent in agents]
        enough = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, enough.set)
        number = 0
        while result.kills < plan.kills and not enough.is_set():
            await _kill_one(plan, place, chance, number, result)
            number += 1
        stopping.set()
        await asyncio.wait_for(asyncio.gather(*talking), 120)
    result.seconds = time.monotonic() - began
    record = await asyncio.to_thread(engine_record, place.engine_url)
    result.verdict = await asyncio.to_thread(check_tape, urls[-1], ledger.heard, record)
    return result


async def _kill_one(plan: Plan, place: Site, chance: random.Random, number: int, result: Result) -> None:
    server = chance.choice(place.servers)
    wanted = len(result.ledger.heard) + chance.randint(1, plan.agents // 2)
    with suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            while len(result.ledger.heard) < wanted:
                result.ledger.news.clear()
                await result.ledger.news.wait()
    await asyncio.sleep(chance.uniform(0, 2 * plan.life))
    with_database = place.postgres if plan.postgres_every and number % plan.postgres_every == 0 else None
    if with_database is not None:
        await asyncio.to_thread(with_database.kill)
    if lives := with_database is not None and chance.random() < 0.5:
        await asyncio.sleep(chance.uniform(0, 2))  # without its database
    else:
        await asyncio.to_thread(server.kill)
        result.kills += 1
    if with_database is not None:
        began = time.monotonic()
        await asyncio.to_thread(with_database.start)
        result.postgres_starts.append(time.monotonic() - began)
    if not lives:  # it does not start without its database
        server.start()
    if with_database is None and chance.random() < 0.05:  # while it starts
        await asyncio.sleep(chance.uniform(0, 2))
        await asyncio.to_thread(server.kill)
        result.kills += 1
        server.start()
    await server.until_ready()
    if number % 20 == 0:
        print(f"{result.kills} kills, {len(result.ledger.heard)} answers heard", file=sys.stderr, flush=True)


def play(plan: Plan, folder: Path) -> Result:
    """:func:`run`, with everything that it needs."""
    with site(folder, plan.store, plan.replicas) as place:
        try:
            return asyncio.run(run(plan, place))
        finally:
            for server in place.servers:
                server.kill()


def main() -> None:
    options = argparse.ArgumentParser(
        prog="python -m tests.durability.kills",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--kills", type=int, default=200)
    options.add_argument("--agents", type=int, default=64)
    options.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite")
    options.add_argument("--replicas", type=int, default=1, help="servers on one tape; needs PostgreSQL")
    options.add_argument("--life", type=float, default=Plan.life, help="mean seconds between readiness and kill")
    options.add_argument("--postgres-every", type=int, default=0, metavar="N", help="kill PostgreSQL at each Nth kill")
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    plan = Plan(**vars(given))
    with tempfile.TemporaryDirectory(prefix="kills-") as made:
        result = play(plan, Path(made))
    print(f"{result.kills} kills of {plan.replicas} on {plan.store} in {result.seconds:.0f} s; {machine()}")
    print(*result.lines(), *result.findings[:20], sep="\n")
    raise SystemExit(bool(result.findings))


if __name__ == "__main__":
    main()
