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
SUMS: Final = {
    "prompt_tokens": "sum(prompt_tokens)",
    "completion_tokens": "sum(completion_tokens)",
    "cached_tokens": """sum(CASE WHEN cached_tokens < prompt_tokens THEN cached_tokens
        WHEN cached_tokens IS NOT NULL THEN prompt_tokens END)""",
    "cached_of_tokens": "sum(CASE WHEN cached_tokens IS NOT NULL THEN prompt_tokens END)",
}
"""The sums, with their SQL, which SQLite and PostgreSQL understand; NULL counts as 0."""
_MOMENT: Final = len("2026-01-02T03:04:05.000000")


@attrs.frozen
class GroupSum:
    """The sums of the requests that have the same values in some dimensions."""

    values: tuple[str | None, ...]
    """In the order of the dimensions."""
    requests: int
    counts: tuple[int, int, int, int]
    """In the order of `SUMS`."""
    latest: str
    """When the last of them began, in UTC, without a zone."""


def group_of(document: Document, dimensions: Sequence[str]) -> GroupSum:
    """Return the sums of one request."""
    began = document["started_at"]
    return GroupSum(
        tuple(began[:10] if name == DAY else document[name] for name in dimensions),
        1,
        _counts_of(document),
        began[:_MOMENT],
    )


def _counts_of(document: Document) -> tuple[int, int, int, int]:
    """Return what `SUMS` gives for one record."""
    prompt, cached = document["prompt_tokens"] or 0, document["cached_tokens"]
    told = (0, 0) if cached is None else (min(cached, prompt), prompt)
    return (prompt, document["completion_tokens"] or 0, *told)


def group_from(row: Sequence[object], dimensions: Sequence[str]) -> GroupSum:
    """Return the sums that a store has read: dimensions, requests, counts, latest.

    An edited column may hold any type; it is shown, and `audit verify` names its record.
    """
    cut = len(dimensions)
    values = tuple(None if value is None else str(value) for value in row[:cut])
    requests, prompt, completion, cached, cached_of = map(_whole, row[cut:-1])
    counts = (prompt, completion, cached, cached_of)
    return GroupSum(values, requests, counts, str(row[-1])[:_MOMENT])


def _whole(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0
