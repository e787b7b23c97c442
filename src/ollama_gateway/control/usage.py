"""Sums of usage, as documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

from ollama_gateway.control.errors import Problem, WrongInput
from ollama_gateway.ledger.read.audit_log import AuditPlace
from ollama_gateway.ledger.read.filtering import Filter
from ollama_gateway.ledger.read.usage import (
    COUNTS,
    PERIODS,
    WAYS,
    By,
    UsageSums,
    dimensions_of,
    usage,
)
from ollama_gateway.printable import printable
from ollama_gateway.settings.units import shown

MAX_WAYS: Final = 2
"""Ways of `by`; a third is more than a table shows."""
_NAMELESS: Final = (None,) * (MAX_WAYS + 1)

T = TypeVar("T", bound=str)
UsageDocument = dict[str, Any]


def ways_of(by: str, per: str | None) -> tuple[By, ...]:
    """Read by what to sum up: one or two ways with a comma between, and a period or none.

    Raises WrongInput.
    """
    ways = tuple(_one_of(WAYS, text, "by") for text in by.split(","))
    if len(ways) > MAX_WAYS:
        raise WrongInput([Problem("by", f"takes {MAX_WAYS} at most")])
    if per is not None:
        ways = (*ways, _one_of(PERIODS, per, "per"))
    if len(set(ways)) < len(ways):
        raise WrongInput([Problem("by", "names one thing twice")])
    return ways


def _one_of(known: Sequence[T], text: str, name: str) -> T:
    for one in known:
        if one == text:
            return one
    names = ", ".join(map(str, known))
    raise WrongInput([Problem(name, f"{shown(text)} is not one of {names}")])


def usage_document(one: UsageSums, ways: Sequence[By]) -> UsageDocument:
    """Return the sums of one group."""
    group: UsageDocument = {}
    for way, name, label in zip(ways, one.names, one.labels, strict=False):
        if way == "key":
            group |= {"key_id": name, "key_name": label}
        else:
            group[way.replace("-", "_")] = name
    counts: UsageDocument = {count: getattr(one, count) for count in COUNTS}
    if not one.cached_of_tokens:
        counts["cached_tokens"] = None
    return {**group, **counts, "total_tokens": one.total_tokens}


def fields_of_usage(ways: Sequence[By]) -> list[str]:
    """Return the names of a document's fields."""
    return list(usage_document(UsageSums(_NAMELESS, _NAMELESS), ways))


def usage_page(
    place: AuditPlace, wanted: Filter, ways: Sequence[By], start: int, limit: int
) -> UsageDocument:
    """Return the documents of some groups, in the order of `usage`; blocks.

    Args:
        place: the audit log.
        wanted: the requests that are summed up.
        ways: by what.
        start: groups that are left out at the beginning.
        limit: the most documents.

    Returns:
        `items`; `groups`, how many there are; `faults`, a line for each thing that cannot be read.

    """
    faults: list[str] = []
    with place.reading(lambda line: faults.append(printable(line))) as audit_log:
        found = usage(audit_log.sums(wanted, dimensions_of(ways)), ways)
    items = [usage_document(one, ways) for one in found[start : start + limit]]
    return {"items": items, "groups": len(found), "faults": faults}
