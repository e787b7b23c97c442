"""Filters and dimensions as SQL over the columns that PostgreSQL has of a record."""

from __future__ import annotations

from datetime import datetime
from itertools import product
from typing import Any, Final

from ollama_gateway.ledger.daily_sums import REQUESTS
from ollama_gateway.ledger.read.filtering import Condition, Filter, Operator
from ollama_gateway.ledger.read.grouping import DAY
from ollama_gateway.ledger.read.records import as_text
from ollama_gateway.storage.migrations.indexes import KEY_PREFIX

# This prints every moment that PostgreSQL has; some are beyond Python's range.
BEGAN: Final = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US')"""

INDEXED: Final = frozenset({"key_id", "key_name"})
"""Columns whose beginnings have an index."""


def conditions_of(wanted: Filter) -> tuple[str, dict[str, Any]]:
    """Return the condition that every wanted record fulfils, and its named values."""
    alternatives, values = alternatives_of(wanted)
    return f"({' OR '.join(alternatives)})", values


def alternatives_of(wanted: Filter) -> tuple[list[str], dict[str, Any]]:
    """Return conditions of which every wanted record fulfils exactly one, and their named values.

    Each can be answered in the order of an index, which PostgreSQL does for no OR of two indexes.
    """
    conditions = list(wanted.conditions())
    values = {f"v{number}": _value(one) for number, one in enumerate(conditions)}
    choices = [_choices(one, name) for one, name in zip(conditions, values, strict=True)]
    return [f"({' AND '.join(chosen) or 'TRUE'})" for chosen in product(*choices)], values


def kind_condition(wanted: Filter) -> str:
    """Return the condition that every wanted record's kind fulfils; the sums have no kinds."""
    if wanted.kind is None:
        return "TRUE"
    return REQUESTS if wanted.kind == "request" else "kind = 'change'"


def _choices(one: Condition, name: str) -> list[str]:
    """Return a condition for each of its columns, which those of the columns before exclude."""
    value, choices, before = f"%({name})s", list[str](), ""
    for column in one.columns:
        comparison = _comparison(column, one.operator, value)
        choices.append(f"({comparison}{before})")
        before += f" AND ({comparison}) IS NOT TRUE"
    return choices


def _comparison(column: str, operator: Operator, value: str) -> str:
    if operator == "contains":
        return f"strpos(lower({column}), {value}) > 0"
    if column in INDEXED:
        prefix = f"left({column}, {KEY_PREFIX}) {operator} left({value}, {KEY_PREFIX})"
        return f"({prefix} AND {column} {operator} {value})"
    return f"{column} {operator} {value}"


def _value(one: Condition) -> str | datetime:
    return one.value if isinstance(one.value, datetime) else as_text(one.value)


def expression_of(dimension: str) -> str:
    """Return the expression of a record for a dimension."""
    began = "to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
    return began if dimension == DAY else dimension
