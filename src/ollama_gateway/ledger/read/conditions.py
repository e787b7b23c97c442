"""Filters and dimensions as SQL over the columns that PostgreSQL has of a record."""

from __future__ import annotations

from datetime import datetime
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
    conditions = list(wanted.conditions())
    values = {f"v{number}": _value(one) for number, one in enumerate(conditions)}
    where = " AND ".join(
        _condition(one, name) for one, name in zip(conditions, values, strict=True)
    )
    return f"({where or 'TRUE'})", values


def kind_condition(wanted: Filter) -> str:
    """Return the condition that every wanted record's kind fulfils; the sums have no kinds."""
    if wanted.kind is None:
        return "TRUE"
    return REQUESTS if wanted.kind == "request" else "kind = 'change'"


def _condition(one: Condition, name: str) -> str:
    value = f"%({name})s"
    return f"({' OR '.join(_comparison(column, one.operator, value) for column in one.columns)})"


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
