"""The process, and whether its event loop keeps up."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tickertape.server.observing.cheap_counters import Histogram

_EVERY = 0.5


def observe_process(registry: CollectorRegistry) -> None:
    """Memory, descriptors and CPU time of this process, its interpreter, and the tasks of the loop that looks."""
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(_Tasks())


class _Tasks(Collector):
    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("tickertape_asyncio_tasks", "Tasks of the event loop.", value=len(asyncio.all_tasks()))


@asynccontextmanager
async def loop_watched(lag: Histogram) -> AsyncIterator[None]:
    """Observes by how many seconds timers are late, while the block runs."""
    watching = asyncio.create_task(_watch(lag), name="watching the event loop")
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _watch(lag: Histogram) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _EVERY
        await asyncio.sleep(_EVERY)
        lag.observe(max(0.0, loop.time() - due))
