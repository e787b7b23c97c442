"""The bounds of metrics."""

from __future__ import annotations

from collections import Counter

import pytest

from ollama_gateway.metrics import Metrics
from ollama_gateway.metrics.counted import DEFINITIONS
from ollama_gateway.metrics.definitions import MAX_SERIES, Definition
from ollama_gateway.metrics.families import MAX_LABEL, SampleFamily


def test_all_metrics_together_have_a_bound() -> None:
    """The definitions allow no more series than a page may have."""
    assert sum(made.series for made in DEFINITIONS.values()) <= MAX_SERIES


def test_no_histogram_has_all_four_labels() -> None:
    """A histogram has two labels at most."""
    histograms = [made for made in DEFINITIONS.values() if made.kind == "histogram"]

    assert max(len(made.labels) for made in histograms) == 2


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_bound_holds_and_loses_nothing(name: str) -> None:
    """Whatever labels come, a metric has no more samples than allowed, and all are counted."""
    definition = DEFINITIONS[name]
    seen = Counter[str]()
    family = SampleFamily(definition, lambda metric: seen.update([metric]))
    count = 2 * definition.most + 10
    for number in range(count):
        labels = tuple(f"{label}{number}" for label in definition.labels)
        if definition.kind == "histogram":
            family.observe(labels, 1.0)
        else:
            family.add(labels)

    assert len(family.cells) <= definition.most
    assert sum(sum(cell[:-1] or cell) for cell in family.cells.values()) == count
    assert not definition.labels or seen[name] == count - (definition.most * 9 + 9) // 10 + (
        definition.most < 10
    )


def test_a_new_model_is_other_before_a_backend_is() -> None:
    """Where models have used up the series, the sums of backends and outcomes stay right."""
    definition = Definition("m", "", "counter", ("model", "backend", "outcome"), most=60)
    family = SampleFamily(definition)
    for number in range(100):
        family.add((f"m{number}", "a", "completed" if number % 2 else "refused"))

    outcomes = Counter[str]()
    for (_, backend, outcome), cell in family.cells.items():
        assert backend == "a"
        outcomes[outcome] += int(cell[0])
    assert outcomes == {"completed": 50, "refused": 50}


def test_what_overflows_is_counted() -> None:
    """The page says of which metric samples are under `other`."""
    metrics = Metrics()
    for number in range(2000):
        metrics.tokens(f"m{number}", "a", None, None, 1)

    assert metrics.value("metric_overflows_total", {"metric": "ollama_gateway_tokens"}) == 650


def test_a_long_name_is_cut() -> None:
    """A backend may list names of any length; a label is not."""
    metrics = Metrics()
    for _ in range(2):
        metrics.request("/api/chat", "m" * 10_000, "a", "completed")

    labels = {"endpoint": "/api/chat", "model": "m" * MAX_LABEL, "backend": "a"}
    assert metrics.value("requests_total", {**labels, "outcome": "completed"}) == 2
