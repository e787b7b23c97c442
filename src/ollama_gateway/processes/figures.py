"""The metrics of several processes as one page for Prometheus.

Counters and histograms are added up. The last values of ended processes are included, so that no
counter goes back. Gauges show the present, so only those of running processes count: they are added
up too, except those in `MAX_GAUGES` and `MIN_GAUGES`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import attrs
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

_RELOAD: Final = "ollama_gateway_config_last_reload"
MAX_GAUGES: Final = {"ollama_gateway_backend_up", f"{_RELOAD}_success_timestamp_seconds"}
"""Gauges whose maximum counts: a backend is up if any process can use it."""
MIN_GAUGES: Final = {f"{_RELOAD}_successful"}
"""Gauges whose minimum counts: a reload has failed if it has for one."""

Labels = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name, and its labels with their values."""


@attrs.frozen
class Family:
    """All samples of one metric."""

    name: str
    documentation: str
    kind: str
    """`counter`, `gauge` or `histogram`."""
    values: Mapping[Labels, float]

    def plus(self, other: Family) -> Family:
        """Combine both."""
        add: Callable[[float, float], float] = operator.add
        if self.name in MAX_GAUGES | MIN_GAUGES:
            add = max if self.name in MAX_GAUGES else min
        values = dict(self.values)
        for labels, value in other.values.items():
            values[labels] = add(values[labels], value) if labels in values else value
        return attrs.evolve(self, values=values)

    def metric(self) -> Metric:
        """Convert to the library's type."""
        made = Metric(self.name, self.documentation, self.kind)
        for (name, labels), value in self.values.items():
            made.add_sample(name, dict(labels), value)
        return made


MetricFamilies = Mapping[str, Family]
"""By name."""


def read(page: str) -> MetricFamilies:
    """Read the metrics page of one process."""
    return {
        found.name: Family(
            found.name,
            found.documentation,
            found.type,
            {(s.name, tuple(s.labels.items())): s.value for s in found.samples},
        )
        for found in text_string_to_metric_families(page)
    }


def total(of: Iterable[MetricFamilies]) -> MetricFamilies:
    """Combine the metrics of several processes."""
    found: dict[str, Family] = {}
    for figures in of:
        for name, family in figures.items():
            found[name] = found[name].plus(family) if name in found else family
    return found


def without_gauges(figures: MetricFamilies) -> MetricFamilies:
    """Return the metrics that still count when their process has ended."""
    return {name: family for name, family in figures.items() if family.kind != "gauge"}


@attrs.frozen(eq=False)
class _Page(Collector):
    figures: MetricFamilies
    processes: int
    restarts: Mapping[int, int]

    def collect(self) -> Iterator[Metric]:
        yield from (family.metric() for family in self.figures.values())
        yield GaugeMetricFamily(
            "ollama_gateway_processes", "Processes that serve clients.", self.processes
        )
        restarts = CounterMetricFamily(
            "ollama_gateway_process_restarts",
            "Restarts of processes that ended.",
            labels=["process"],
        )
        for number, count in self.restarts.items():
            restarts.add_metric([str(number)], count)
        yield restarts


def page(figures: MetricFamilies, processes: int, restarts: Mapping[int, int]) -> bytes:
    """Render the page that Prometheus scrapes.

    Args:
        figures: the metrics of all processes together.
        processes: the number of processes that serve.
        restarts: how often each process was restarted, by number.

    """
    registry = CollectorRegistry()
    registry.register(_Page(figures, processes, restarts))
    return generate_latest(registry)
