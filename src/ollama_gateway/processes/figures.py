"""The figures of several processes as one page for Prometheus.

Counters and histograms are added up, those of ended processes too: what was last seen of them is
kept, so that no counter ever goes back. A gauge says how things are, so only living processes have
a say in it: their gauges are added up as well, but for those in `MOST`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import attrs
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

MAX_GAUGES: Final = {"ollama_gateway_backend_up"}
"""Gauges of which the highest counts: a backend that any process can use is up."""

Labels = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name, and its labels with their values."""


@attrs.frozen
class Family:
    """All samples of one figure."""

    name: str
    documentation: str
    kind: str
    """`counter`, `gauge` or `histogram`."""
    values: Mapping[Labels, float]

    def plus(self, other: Family) -> Family:
        """Both together."""
        add = max if self.name in MAX_GAUGES else operator.add
        values = dict(self.values)
        for labels, value in other.values.items():
            values[labels] = add(values[labels], value) if labels in values else value
        return attrs.evolve(self, values=values)

    def metric(self) -> Metric:
        """As the library prints it."""
        made = Metric(self.name, self.documentation, self.kind)
        for (name, labels), value in self.values.items():
            made.add_sample(name, dict(labels), value)
        return made


MetricFamilies = Mapping[str, Family]
"""By name."""


def read(page: str) -> MetricFamilies:
    """The figures of a page that one process made."""
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
    """The figures of several processes."""
    found: dict[str, Family] = {}
    for figures in of:
        for name, family in figures.items():
            found[name] = found[name].plus(family) if name in found else family
    return found


def without_gauges(figures: MetricFamilies) -> MetricFamilies:
    """What of a process's figures still counts when it has ended."""
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
            "Processes that ended and were started again.",
            labels=["process"],
        )
        for number, count in self.restarts.items():
            restarts.add_metric([str(number)], count)
        yield restarts


def page(figures: MetricFamilies, processes: int, restarts: Mapping[int, int]) -> bytes:
    """The text that Prometheus scrapes.

    Args:
        figures: of all processes together.
        processes: how many serve.
        restarts: how often each, by its number, was started again.

    """
    registry = CollectorRegistry()
    registry.register(_Page(figures, processes, restarts))
    return generate_latest(registry)
