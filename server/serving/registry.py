"""One server's metrics, together: a registry of its own, so that servers in one process do not mix."""

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from tickertape.server.calls.limits import Admission
from tickertape.server.calls.recognition import Recognition
from tickertape.server.observing.process import observe_process
from tickertape.server.serving.gauges import Gauges

if TYPE_CHECKING:
    from tickertape.server.turns.turns import Turns


def make_registry(turns: "Turns", recognition: Recognition, admission: Admission) -> CollectorRegistry:
    """Makes the registry that ``/metrics`` shows."""
    registry = CollectorRegistry()
    registry.register(turns.metrics)
    registry.register(Gauges(turns, recognition, admission))
    observe_process(registry)
    return registry
