"""The sums of requests that agree in some dimensions, made from columns or from documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from ollama_gateway.ledger.document import Document
from ollama_gateway.ledger.facts import FACTS, SUMMED

DAY: Final = "day"
"""The day (UTC) on which a request began: a dimension that is no column."""
DIMENSIONS: Final = frozenset({DAY, *FACTS} - set(SUMMED))
"""The names by which records can be grouped."""
_MOMENT: Final = len("2026-01-02T03:04:05.000000")


@attrs.frozen
class GroupSum:
    """The sums of the requests that have the same values in some dimensions."""

    values: tuple[str | None, ...]
    """In the order of the dimensions."""
    requests: int
    counts: tuple[int, ...]
    """In the order of `SUMMED`; a record without a count counts as 0."""
    latest: str
    """When the last of them began, in UTC, without a zone."""


def group_of(document: Document, dimensions: Sequence[str]) -> GroupSum:
    """Return the sums of one request."""
    began = document["started_at"]
    return GroupSum(
        tuple(began[:10] if name == DAY else document[name] for name in dimensions),
        1,
        tuple(document[name] or 0 for name in SUMMED),
        began[:_MOMENT],
    )


def group_from(row: Sequence[object], dimensions: Sequence[str]) -> GroupSum:
    """Return the sums that a store has read: dimensions, requests, counts, latest.

    An edited column may hold any type; it is shown, and `audit verify` names its record.
    """
    cut = len(dimensions)
    values = tuple(None if value is None else str(value) for value in row[:cut])
    requests, *counts, latest = row[cut:]
    return GroupSum(values, _whole(requests), tuple(map(_whole, counts)), str(latest)[:_MOMENT])


def _whole(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0
