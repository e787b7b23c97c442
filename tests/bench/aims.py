"""The report: aims with the figures measured, and lines of figures; text, Markdown or JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import Any, Final

import attrs

from tests.bench.measure import Measurement

HEADS: Final = (
    "scenario",
    "subject",
    "CPU ms/request",
    "CPU us/chunk",
    "chunks/read",
    "first p50 ms",
    "first p99 ms",
    "gap p50 ms",
    "gap p99 ms",
    "wall s",
    "requests/s",
    "errors",
    "client %",
    "upstream %",
)


@attrs.frozen
class Aim:
    """A figure and its bound."""

    scenario: str
    what: str
    seen: float | None
    """None: not measured."""
    bound: float
    hoped: float | None = None
    unit: str = ""
    at_most: bool = True
    why_not: str = ""

    @property
    def verdict(self) -> str:
        """Say whether it is met, missed or not measured."""
        if self.seen is None:
            return "not measured"
        is_met = self.seen <= self.bound if self.at_most else self.seen >= self.bound
        return "met" if is_met else "missed"

    def cells(self) -> list[str]:
        """Return scenario, figure, value, bound and verdict."""
        sign = "<=" if self.at_most else ">="
        hoped = "" if self.hoped is None else f" (aim {self.hoped:g})"
        seen = self.why_not if self.seen is None else f"{self.seen:.3g}{self.unit}"
        bound = f"{sign} {self.bound:g}{self.unit}{hoped}"
        return [self.scenario, self.what, seen, bound, self.verdict]

    def __str__(self) -> str:
        scenario, what, seen, bound, verdict = self.cells()
        return f"{verdict:<12} {scenario:<8} {what:<52} {seen:>12}  {bound}"


@attrs.frozen
class Row:
    """A subject under a load: the medians of its rounds."""

    scenario: str
    subject: str
    seen: Sequence[Measurement]

    def figures(self) -> list[float]:
        """Return the cells in the order of `HEADS`."""
        median = statistics.median
        return [
            1e3 * median(one.per_request for one in self.seen),
            1e6 * median(one.per_chunk for one in self.seen),
            median(one.joined for one in self.seen),
            1e3 * median(one.first(50) for one in self.seen),
            1e3 * median(one.first(99) for one in self.seen),
            1e3 * median(one.gap(50) for one in self.seen),
            1e3 * median(one.gap(99) for one in self.seen),
            median(one.wall for one in self.seen),
            median(one.load.count / one.wall for one in self.seen),
            sum(one.errors for one in self.seen),
            100 * max(one.client for one in self.seen),
            100 * max(one.upstream for one in self.seen),
        ]

    def cells(self) -> list[str]:
        """Return one line of text."""
        digits = (2, 0, 1, 1, 1, 1, 1, 2, 0, 0, 0, 0)
        figures = zip(self.figures(), digits, strict=True)
        return [self.scenario, self.subject, *(f"{figure:.{n}f}" for figure, n in figures)]

    def __str__(self) -> str:
        scenario, subject, *cells = self.cells()
        pairs = zip(HEADS[2:], cells, strict=True)
        return f"{scenario:<10} {subject:<8} " + "  ".join(f"{n} {cell}" for n, cell in pairs)


def markdown(aims: Sequence[Aim], rows: Sequence[Row]) -> str:
    """Return both tables, for docs/evidence/benchmarks.md."""
    first = _table(("scenario", "what", "seen", "bound", ""), [aim.cells() for aim in aims])
    return first + "\n" + _table(HEADS, [row.cells() for row in rows])


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    ruled = [heads, ["---"] * len(heads), *lines]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in ruled)


def as_json(aims: Sequence[Aim], rows: Sequence[Row]) -> str:
    """Return all figures."""
    found: dict[str, Any] = {
        "aims": [{**attrs.asdict(aim), "verdict": aim.verdict} for aim in aims],
        "rows": [
            dict(zip(HEADS, [row.scenario, row.subject, *row.figures()], strict=True))
            for row in rows
        ],
    }
    return json.dumps(found, indent=2)
