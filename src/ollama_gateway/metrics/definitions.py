"""The definition of a metric, and its bound: `most` label sets, so that no page grows without end.

`traffic.py` and `running.py` define all metrics, and `docs/operate/metrics.md` has a line for each.
`families.py` says how samples beyond the bound are counted. Histograms have two labels at most.
"""

from __future__ import annotations

from typing import Final, Literal

import attrs

PREFIX: Final = "ollama_gateway_"
MAX_SERIES: Final = 20_000
"""Series of one page; the definitions together allow no more."""
FIRST_CHUNK_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
REQUEST_SECONDS: Final = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
OPERATION_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
LAG_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
LOAD_SECONDS: Final = (1, 2.5, 5, 10, 20, 40, 80, 160, 320)
SPEEDS: Final = (1, 2.5, 5, 10, 20, 40, 80, 160, 320)
"""Tokens a second."""

Kind = Literal["counter", "gauge", "histogram"]
Merge = Literal["sum", "max", "min"]
"""How the values of several processes become one."""


@attrs.frozen
class Definition:
    """One metric."""

    name: str
    """Without the `_total` that a counter's samples end with."""
    help: str
    kind: Kind
    labels: tuple[str, ...] = ()
    most: int = 1
    """Label sets that it may have."""
    merge: Merge = "sum"
    bounds: tuple[float, ...] = ()
    """The upper bounds of a histogram's buckets, without the last one."""
    sorted_labels: tuple[tuple[str, int], ...] = attrs.field(init=False)
    """The labels as pages show them, each with its place in `labels`."""

    @sorted_labels.default
    def _sorted(self) -> tuple[tuple[str, int], ...]:
        return tuple(sorted((name, place) for place, name in enumerate(self.labels)))

    @property
    def series(self) -> int:
        """The series that it may have."""
        return self.most * (len(self.bounds) + 3 if self.kind == "histogram" else 1)


def counter(name: str, text: str, *labels: str, most: int = 1) -> Definition:
    """Define a counter."""
    return Definition(PREFIX + name, text, "counter", labels, most)


def gauge(name: str, text: str, *labels: str, most: int = 1, merge: Merge = "sum") -> Definition:
    """Define a gauge."""
    return Definition(PREFIX + name, text, "gauge", labels, most, merge)


def histogram(
    name: str, text: str, *labels: str, bounds: tuple[float, ...], most: int = 1
) -> Definition:
    """Define a histogram."""
    return Definition(PREFIX + name, text, "histogram", labels, most, "sum", bounds)


def of_process(kind: Kind, name: str, text: str, merge: Merge = "sum") -> Definition:
    """Define a metric that all programs name alike."""
    return Definition(name, text, kind, merge=merge)
