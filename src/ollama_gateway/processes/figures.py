"""The metrics of several processes as one.

Counters and histograms are added up. The last values of ended processes are included, so that no
counter goes back. Gauges show the present, so only those of running processes count; each
definition says how they are merged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ollama_gateway.metrics import running
from ollama_gateway.metrics.counted import DEFINITIONS
from ollama_gateway.metrics.families import SampleFamily
from ollama_gateway.wire.large import Steps

MetricFamilies = Mapping[str, SampleFamily]
"""By name."""


def total(of: Iterable[MetricFamilies]) -> Steps[dict[str, SampleFamily]]:
    """Combine the metrics of several processes, in steps; those given stay as they are."""
    found: dict[str, SampleFamily] = {}
    for families in of:
        for name, family in families.items():
            if name not in found:
                found[name] = SampleFamily(family.definition)
            found[name].merge(family)
            yield
    return {name: found[name] for name in DEFINITIONS if name in found}


def without_gauges(families: MetricFamilies) -> MetricFamilies:
    """Return the metrics that still count when their process has ended."""
    return {n: family for n, family in families.items() if family.definition.kind != "gauge"}


def of_processes(count: int, restarts: Mapping[int, int]) -> MetricFamilies:
    """Return how many processes serve, and how often each was restarted, by number."""
    serving = SampleFamily(running.PROCESSES)
    serving.put(count)
    restarted = SampleFamily(running.PROCESS_RESTARTS)
    for number, times in restarts.items():
        restarted.add((str(number),), times)
    return {family.definition.name: family for family in (serving, restarted)}
