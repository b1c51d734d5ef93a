"""What a stream costs on its way through Tickertape: `python -m benchmarks.streaming`, from the root.

The engine is a fake one that streams one event per token at the pace of a clock (`paced_engine.py`); the limit is
`bare_relay.py`, which forwards its bytes as they come. Three questions:

- *first token*: one stream at a time, to each path in turn. "Added" is a path's p50 or p95 less the engine's own. A gap
  is the time between two reads of the client. The engine ticks every 5 ms here, the first token comes at once.
- *throughput*: many streams at once, more tokens than a proxy on one core can pass on. Who is slower than the engine
  reads several events at a time, and joins them: so does Tickertape, as its clients' messages say. The engine's row is
  what the load generator and the engine can do at most.
- *many streams*: 1,000 of them, slow as on a busy engine, for a minute. Memory may grow by what is sampled, for until a
  turn is on tape its tokens and logprobs are held; not by anything else.

The proxy under test has a core to itself; engine and load generator share the next one if there are only two.
"""

import argparse
import asyncio
import itertools
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import httptools
import orjson
import uvloop

from benchmarks.children import Child, Cores, child, pin
from benchmarks.load import Request, post
from benchmarks.measure import quiet
from benchmarks.proxy import COMPLETIONS, default_tokenizer
from benchmarks.table import machine, show_table

Rows = list[list[str]]
MakeRequest = Callable[[int], Request]
UNCOUNTED = 3
PARTS = ("first", "throughput", "many")


@dataclass(frozen=True)
class Way:
    """A way to the engine."""

    name: str
    process: Child
    request: MakeRequest
    """For so many tokens; no two alike."""


@dataclass(frozen=True)
class Plan:
    """How long to look."""

    calls: int = 80
    call_tokens: int = 24
    streams: int = 128
    stream_tokens: int = 400
    many: int = 1000
    many_interval: float = 0.4
    many_seconds: float = 60.0
    looks: int = 6


QUICK = Plan(
    calls=5, call_tokens=8, streams=8, stream_tokens=20, many=20, many_interval=0.05, many_seconds=2.0, looks=2
)


class Stream(asyncio.Protocol):
    """One connection, which reads answers that come in pieces."""

    def __init__(self) -> None:
        self.reads: list[float] = []
        """When something of the body came."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, request: Request) -> "asyncio.Future[None]":
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.reads, self._last = [], b""
        self._parser = httptools.HttpResponseParser(self)
        self._transport.writelines(request)
        return self.done

    def data_received(self, data: bytes) -> None:
        self._now = time.perf_counter()
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._last = body
        if not self.reads or self.reads[-1] != self._now:
            self.reads.append(self._now)

    def on_message_complete(self) -> None:
        if (status := self._parser.get_status_code()) == 200:
            self.done.set_result(None)
        else:
            self.done.set_exception(RuntimeError(f"HTTP {status}: {self._last[:500]!r}"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(f"the connection was lost: {exc}"))

    def close(self) -> None:
        self._transport.close()


@dataclass
class Heard:
    """Of one way, one stream at a time."""

    firsts: list[float] = field(default_factory=list)
    """Seconds to the first piece of the body."""
    gaps: list[float] = field(default_factory=list)
    """Seconds between two pieces."""


async def listen(ways: list[Way], plan: Plan) -> list[Heard]:
    """One stream at a time, each way in turn."""
    loop = asyncio.get_running_loop()
    heard = [Heard() for _ in ways]
    streams = [(await loop.create_connection(Stream, "127.0.0.1", way.process.port))[1] for way in ways]
    for call in range(-UNCOUNTED, plan.calls):
        for way, stream, found in zip(ways, streams, heard, strict=True):
            start = time.perf_counter()
            await stream.ask(way.request(plan.call_tokens))
            if call >= 0:
                found.firsts.append(stream.reads[0] - start)
                found.gaps += [after - before for before, after in itertools.pairwise(stream.reads)]
    for stream in streams:
        stream.close()
    return heard


def first_rows(ways: list[Way], heard: list[Heard]) -> Rows:
    engine = heard[0]

    def added(values: list[float], of_engine: list[float], percent: int) -> str:
        return "" if values is of_engine else ms(quantile(values, percent) - quantile(of_engine, percent))

    return [
        [
            "first token",
            way.name,
            ms(quantile(found.firsts, 50)),
            ms(quantile(found.firsts, 95)),
            added(found.firsts, engine.firsts, 50),
            added(found.firsts, engine.firsts, 95),
            ms(quantile(found.gaps, 50)),
            ms(quantile(found.gaps, 95)),
        ]
        for way, found in zip(ways, heard, strict=True)
    ]


async def flood(way: Way, plan: Plan) -> float:
    """Many streams at once; seconds until all have ended."""
    loop = asyncio.get_running_loop()
    streams = [(await loop.create_connection(Stream, "127.0.0.1", way.process.port))[1] for _ in range(plan.streams)]
    start = time.perf_counter()
    await asyncio.gather(*(stream.ask(way.request(plan.stream_tokens)) for stream in streams))
    took = time.perf_counter() - start
    for stream in streams:
        stream.close()
    return took


def flood_rows(ways: list[Way], plan: Plan) -> Rows:
    rows: Rows = []
    relay = 0.0
    tokens = plan.streams * plan.stream_tokens
    for way in ways:
        uvloop.run(flood(way, Plan(streams=4, stream_tokens=10)))  # warms up
        cpu = way.process.cpu_seconds()
        with quiet():
            took = uvloop.run(flood(way, plan))
        cpu = way.process.cpu_seconds() - cpu
        rate = tokens / took
        relay = rate if way.name == "bare relay" else relay
        of_relay = f"{rate / relay:.2f}" if relay else ""
        row = [
            "throughput",
            way.name,
            f"{rate:,.0f}",
            of_relay,
            f"{1000 * cpu / tokens:.3f}",
            f"{100 * cpu / took:.0f}",
        ]
        rows.append(row)
    return rows


async def hold(way: Way, plan: Plan) -> Rows:
    """Many slow streams at once, and a look at the process now and then."""
    loop = asyncio.get_running_loop()
    streams = [(await loop.create_connection(Stream, "127.0.0.1", way.process.port))[1] for _ in range(plan.many)]
    n_tokens = int(plan.many_seconds / plan.many_interval)
    start, cpu, memory = time.perf_counter(), way.process.cpu_seconds(), way.process.resident_bytes()
    rows: Rows = []

    def look(when: str) -> None:
        nonlocal start, cpu
        now, spent = time.perf_counter(), way.process.cpu_seconds()
        under_way = sum(not stream.done.done() for stream in streams if stream.reads)
        resident = way.process.resident_bytes()
        busy = (spent - cpu) / max(now - start, 1e-9)
        start, cpu = now, spent
        grown = f"{(resident - memory) / 2**20:+.0f}"
        rows.append(["many streams", when, str(under_way), f"{resident / 2**20:.0f}", grown, f"{100 * busy:.0f}"])

    asked = []
    for stream in streams:
        asked.append(stream.ask(way.request(n_tokens)))
        await asyncio.sleep(0.005)
    began = time.perf_counter()
    while not all(stream.reads for stream in streams):  # noqa: ASYNC110  (it happens in another process)
        await asyncio.sleep(0.1)
    look("all begun")
    for number in range(1, plan.looks):
        await asyncio.sleep(plan.many_seconds * number / plan.looks - (time.perf_counter() - began))
        look(f"{time.perf_counter() - began:.0f} s")
    await asyncio.gather(*asked)
    look(f"ended, {time.perf_counter() - began:.0f} s")
    for stream in streams:
        stream.close()
    return rows


def agents_streams(model: str) -> MakeRequest:
    """Streams asked for as agents do, each in a session of its own."""
    count = itertools.count()

    def request(n_tokens: int) -> Request:
        messages = [{"role": "user", "content": "Go through the repository, and tell what you find."}]
        body = {"model": model, "messages": messages, "max_tokens": n_tokens, "stream": True}
        return post(f"/sessions/stream-{next(count)}/v1/chat/completions", orjson.dumps(body))

    return request


def engine_streams(n_tokens: int) -> Request:
    """What the engine is asked, as far as it looks."""
    asked = {"prompt": list(range(20)), "stream": True, "max_tokens": n_tokens}
    return post(COMPLETIONS, orjson.dumps(asked))


class Stage:
    """The processes of a run."""

    def __init__(self, stack: ExitStack, tokenizer: Path) -> None:
        self.cores = Cores.available()
        pin(os.getpid(), self.cores.load)
        self._scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-")))
        self._stack = stack
        self._tokenizer = tokenizer
        self._names = map(str, itertools.count())

    def engine(self, interval: float) -> Child:
        arguments = ["--tokenizer", str(self._tokenizer), "--interval", str(interval)]
        return self._start("benchmarks.paced_engine", arguments, self.cores.engine, "/health")

    def relay(self, engine: Child) -> Child:
        arguments = ["--engine", f"http://127.0.0.1:{engine.port}"]
        return self._start("benchmarks.bare_relay", arguments, self.cores.proxy, "/")

    def tickertape(self, engine: Child) -> Child:
        url, database = f"vllm=http://127.0.0.1:{engine.port}", self._scratch / f"{next(self._names)}.db"
        arguments = ["serve", "--host", "127.0.0.1", "--db", str(database), "--engine", url]
        arguments += ["--model", str(self._tokenizer)]
        return self._start("tickertape.server", arguments, self.cores.proxy, "/ready")

    def ways(self, interval: float) -> list[Way]:
        engine = self.engine(interval)
        return [
            Way("engine", engine, engine_streams),
            Way("bare relay", self.relay(engine), engine_streams),
            Way("Tickertape", self.tickertape(engine), agents_streams("null")),
        ]

    def _start(self, module: str, arguments: list[str], core: int, ready: str) -> Child:
        log = self._scratch / f"{next(self._names)}.log"
        return self._stack.enter_context(child(module, *arguments, core=core, ready=ready, log=log))


def quantile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def ms(seconds: float) -> str:
    return f"{1000 * seconds:.2f}"


def parts(wanted: set[str], plan: Plan, tokenizer: Path) -> Iterator[tuple[list[str], Rows]]:
    """Each part's titles and rows, in processes of its own."""
    if "first" in wanted:
        with ExitStack() as stack:
            ways = Stage(stack, tokenizer).ways(0.005)
            with quiet():
                heard = uvloop.run(listen(ways, plan))
            titles = ["", "path", "first\np50 ms", "first\np95 ms", "added\np50 ms", "added\np95 ms"]
            yield [*titles, "gap\np50 ms", "gap\np95 ms"], first_rows(ways, heard)
    if "throughput" in wanted:
        with ExitStack() as stack:
            ways = Stage(stack, tokenizer).ways(0.005)
            titles = ["", "path", f"tokens/s\n{plan.streams} streams", "of\nrelay"]
            yield [*titles, "CPU s per\n1,000 tokens", "core\nbusy %"], flood_rows(ways, plan)
    if "many" in wanted:
        with ExitStack() as stack:
            stage = Stage(stack, tokenizer)
            engine = stage.engine(plan.many_interval)
            way = Way("Tickertape", stage.tickertape(engine), agents_streams("null"))
            uvloop.run(flood(way, Plan(streams=50, stream_tokens=3)))  # what it loads on first use
            with quiet():
                rows = uvloop.run(hold(way, plan))
            yield ["", "when", "streams\nunder way", "RSS\nMB", "grown\nMB", "core\nbusy %"], rows


def main() -> None:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.streaming", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--tokenizer", type=Path, help="directory with tokenizer.json and a chat template")
    options.add_argument("--only", action="append", choices=PARTS, help="this part; may be repeated")
    options.add_argument("--quick", action="store_true", help="a few seconds, to see that it runs; not for numbers")
    options.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    given = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave every `with`, so that no child is left behind
    wanted = set(given.only or PARTS)
    for titles, rows in parts(wanted, QUICK if given.quick else Plan(), given.tokenizer or default_tokenizer()):
        load = f"load average {os.getloadavg()[0]:.1f}"
        show_table(titles, [rows], [machine(), f"{load}, benchmark included"], markdown=given.markdown)
        print(flush=True)


if __name__ == "__main__":
    main()
