"""The samples of one metric: counted by plain functions, merged, and bounded.

Labels are the gateway's own words, names of the settings, and names of models that backends list,
of which there may be any number. So a metric has a bound. Beyond nine tenths of it a new model is
counted as `other`, beside its further labels; beyond the whole, all labels are `other`. Nothing is
lost from the sums, and samples under `other` are counted.

A request changes a dozen samples, so a sample is a list in a dictionary, found by its labels.
"""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Final

import attrs

from ollama_gateway.metrics.definitions import Definition, Merge

OTHER: Final = "other"
"""The label of what has no series of its own."""
GIVEN_UP_FIRST: Final = frozenset({"model", "key_id", "version"})
"""Labels with values from outside."""
MAX_LABEL: Final = 200
"""Characters of a label; a backend may list longer names of models."""
_RULES: Final[Mapping[Merge, Callable[[float, float], float]]] = {
    "sum": operator.add,
    "max": max,
    "min": min,
}

Labels = tuple[str, ...]
"""The values of the labels, in the order of the definition."""
Cell = list[float]
"""One value; of a histogram the counts of its buckets, each without the smaller ones, and the sum.
"""


@attrs.define(eq=False)
class SampleFamily:
    """All samples of one metric."""

    definition: Definition
    overflow: Callable[[str], None] = lambda _: None
    """Called with the metric's name for each sample that is counted under `other`."""
    cells: dict[Labels, Cell] = attrs.field(factory=dict)
    _bounds: tuple[float, ...] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._bounds = self.definition.bounds

    def begin_at_zero(self, *labels: str) -> None:
        """Show a sample before anything was counted."""
        self._cell(labels)

    def add(self, labels: Labels, amount: float = 1.0) -> None:
        """Add to a counter."""
        (self.cells.get(labels) or self._cell(labels))[0] += amount

    def observe(self, labels: Labels, value: float) -> None:
        """Count a value of a histogram."""
        cell = self.cells.get(labels) or self._cell(labels)
        cell[bisect_left(self._bounds, value)] += 1
        cell[-1] += value

    def set(self, value: float, *labels: str) -> None:
        """Set a gauge."""
        self._cell(labels)[0] = float(value)

    def put(self, value: float, *labels: str) -> None:
        """Put a value into a family that is new for each page; those of one sample are merged."""
        found = self._place(labels)
        known = self.cells.get(found)
        merge = _RULES[self.definition.merge]
        self.cells[found] = [float(value) if known is None else merge(known[0], value)]

    def merge(self, other: SampleFamily) -> None:
        """Take in the samples of another process."""
        merge = _RULES[self.definition.merge]
        for labels, cell in other.cells.items():
            found = self._place(labels)
            known = self.cells.get(found)
            self.cells[found] = list(cell) if known is None else list(map(merge, known, cell))

    def _cell(self, labels: Labels) -> Cell:
        found = self._place(labels)
        if found not in self.cells:
            is_histogram = self.definition.kind == "histogram"
            self.cells[found] = [0.0] * (len(self._bounds) + 2 if is_histogram else 1)
        return self.cells[found]

    def _place(self, labels: Labels) -> Labels:
        """Return the labels under which a sample is counted."""
        labels = tuple([value[:MAX_LABEL] for value in labels])
        if labels in self.cells:
            return labels
        most = self.definition.most
        if most == 1 or len(self.cells) < most - max(1, most // 10):
            return labels
        self.overflow(self.definition.name)
        names = self.definition.labels
        pairs = zip(names, labels, strict=True)
        shared = tuple(OTHER if name in GIVEN_UP_FIRST else value for name, value in pairs)
        if shared in self.cells or len(self.cells) < most - 1:
            return shared
        return (OTHER,) * len(names)
