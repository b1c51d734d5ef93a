"""Counters and histograms that cost a turn next to nothing.

prometheus-client's own take a lock for every label and every increment, which added up to 5% of a turn. These are
counted on the event loop's thread alone, as plain numbers, and become prometheus-client's when they are read.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

#: Bounds of durations, in seconds: 0.1 ms to 10 minutes.
SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)


class Counter:
    """A counter.

    Args:
        name: with its unit, without ``_total``.
        help_text: one sentence.
        labels: their names; each set of values must be one of few.
    """

    def __init__(self, name: str, help_text: str, labels: Sequence[str] = ()) -> None:
        self._name = name
        self._help = help_text
        self._labels = labels
        self._counts: dict[tuple[str, ...], float] = {} if labels else {(): 0}

    def add(self, by: float = 1, *values: str) -> None:
        """Counts, under the labels' values in order."""
        counts = self._counts
        counts[values] = counts.get(values, 0) + by

    def collect(self) -> Iterator[Metric]:
        """As prometheus-client's."""
        family = CounterMetricFamily(self._name, self._help, labels=self._labels)
        for values, count in self._counts.items():
            family.add_metric(values, count)
        yield family


@dataclass(slots=True)
class _Series:
    counts: list[int]
    """Observations by bucket, the one above all bounds last."""
    total: float = 0.0


class Histogram:
    """A histogram.

    Args:
        name: with its unit.
        help_text: one sentence.
        labels: their names; each set of values must be one of few.
        bounds: of the buckets, ascending.
    """

    def __init__(
        self, name: str, help_text: str, labels: Sequence[str] = (), *, bounds: Sequence[float] = SECONDS
    ) -> None:
        self._name = name
        self._help = help_text
        self._labels = labels
        self._bounds = bounds
        self._series: dict[tuple[str, ...], _Series] = {}
        if not labels:
            self._series[()] = self._new()

    def observe(self, value: float, *values: str) -> None:
        """Adds an observation, under the labels' values in order."""
        series = self._series.get(values)
        if series is None:
            series = self._series[values] = self._new()
        series.counts[bisect_left(self._bounds, value)] += 1
        series.total += value

    def _new(self) -> _Series:
        return _Series([0] * (len(self._bounds) + 1))

    def collect(self) -> Iterator[Metric]:
        """As prometheus-client's."""
        family = HistogramMetricFamily(self._name, self._help, labels=self._labels)
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        for values, series in self._series.items():
            buckets = list(zip(bounds, accumulate(series.counts), strict=True))
            family.add_metric(values, buckets, series.total)
        yield family
