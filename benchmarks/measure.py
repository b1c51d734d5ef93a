"""What is measured: a contender's turns per second, latency and CPU time, on the same machine at the same time.

Contenders take turns, a slice of time each, several times over: what else the machine does meets all of them.
"""

import gc
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field

import orjson

from benchmarks.children import Child
from benchmarks.load import Caller, Load, Request, get

UNCOUNTED = 5


@dataclass
class Contender:
    """One way to the engine, and what was measured of it."""

    name: str
    process: Child
    requests: Iterator[Request]
    """Without end, and all of one size."""

    rates: list[float] = field(default_factory=list)
    """Turns per second of each slice."""
    latencies: list[float] = field(default_factory=list)
    """Seconds per request, on one connection."""
    cpu_seconds: float = 0
    """CPU time of the process over all slices."""
    wall_seconds: float = 0
    turns: int = 0
    sent: int = 0
    """Size of a request, in bytes."""
    reached: float = 0
    """Mean size of what reached the engine for a request, in bytes."""

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def cpu_per_1000(self) -> float:
        return 1000 * self.cpu_seconds / self.turns

    @property
    def busy(self) -> float:
        """Share of one core that the process used under load; near 1, it was the bottleneck."""
        return self.cpu_seconds / self.wall_seconds

    def latency(self, percent: int) -> float:
        return statistics.quantiles(self.latencies, n=100, method="inclusive")[percent - 1]


@dataclass(frozen=True)
class Effort:
    """How long to look."""

    slices: int
    warm_up: float
    seconds: float
    calls: int
    connections: int = 32


class Engine:
    """The null engine's own count of what it was asked."""

    def __init__(self, process: Child) -> None:
        self._port = process.port

    def requests_and_bytes(self) -> tuple[int, int]:
        with closing(Caller(self._port)) as caller:
            stats = orjson.loads(caller.call(get("/stats")))
        return stats["requests"], stats["bytes"]


def measure_latency(contenders: Sequence[Contender], effort: Effort) -> None:
    """One request at a time, to each contender in turn."""
    with ExitStack() as stack, quiet():
        callers = [stack.enter_context(closing(Caller(contender.process.port))) for contender in contenders]
        for call in range(-UNCOUNTED, effort.calls):
            for contender, caller in zip(contenders, callers, strict=True):
                request = next(contender.requests)
                seconds, _ = caller.timed(request)
                if call >= 0:
                    contender.latencies.append(seconds)
                contender.sent = sum(map(len, request))


def measure_rate(contenders: Sequence[Contender], engine: Engine, effort: Effort) -> None:
    """All connections at once, to one contender at a time."""
    for _ in range(effort.slices):
        for contender in contenders:
            _slice(contender, engine, effort)


def _slice(contender: Contender, engine: Engine, effort: Effort) -> None:
    requests, received = engine.requests_and_bytes()
    cpu = contender.process.cpu_seconds()
    load = Load(contender.requests, effort.warm_up, effort.seconds)
    with quiet():
        load.run(contender.process.port, effort.connections)
    contender.cpu_seconds += contender.process.cpu_seconds() - cpu
    contender.wall_seconds += load.finished[-1]
    contender.turns += len(load.finished)
    contender.rates.append(load.rate())
    requests_after, received_after = engine.requests_and_bytes()
    contender.reached = (received_after - received) / max(requests_after - requests, 1)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep this process's garbage collector out of the measurement."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
