"""Filters and dimensions as SQL over the columns that PostgreSQL has of a record."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from ollama_gateway.ledger.read.filtering import Condition, Filter
from ollama_gateway.ledger.read.grouping import DAY
from ollama_gateway.ledger.read.records import as_text

# This prints every moment that PostgreSQL has; some are beyond Python's range.
BEGAN: Final = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US')"""


def conditions_of(wanted: Filter) -> tuple[str, dict[str, Any]]:
    """Return the condition that every wanted record fulfils, and its named values."""
    conditions = list(wanted.conditions())
    values = {f"v{number}": _value(one) for number, one in enumerate(conditions)}
    where = " AND ".join(
        _condition(one, name) for one, name in zip(conditions, values, strict=True)
    )
    return f"({where or 'TRUE'})", values


def _condition(one: Condition, name: str) -> str:
    form = (
        "strpos(lower({}), %({})s) > 0"
        if one.operator == "contains"
        else f"{{}} {one.operator} %({{}})s"
    )
    return f"({' OR '.join(form.format(column, name) for column in one.columns)})"


def _value(one: Condition) -> str | datetime:
    return one.value if isinstance(one.value, datetime) else as_text(one.value)


def expression_of(dimension: str) -> str:
    """Return the expression of a record for a dimension."""
    began = "to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
    return began if dimension == DAY else dimension
