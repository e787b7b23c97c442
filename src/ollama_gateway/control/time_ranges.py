"""Times as operators give them: a duration before now, a moment (RFC 3339), or a day in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from ollama_gateway.control.errors import Problem, WrongInput
from ollama_gateway.ledger.read.filtering import TimeRange
from ollama_gateway.settings.units import seconds, shown

_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_MOMENT: Final = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
)


def time_range_of(since: str | None, until: str | None) -> TimeRange:
    """Read the two ends, either of which may be missing; raises WrongInput."""
    now = datetime.now(UTC)
    begin = None if since is None else _read("since", since, now)
    end = None if until is None else _read("until", until, now)
    if begin and end and end <= begin:
        raise WrongInput([Problem("until", "must be later than since")])
    return TimeRange(begin, end)


def _read(name: str, text: str, now: datetime) -> datetime:
    try:
        if _DAY.fullmatch(text):
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        if _MOMENT.fullmatch(text):
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
        return now - timedelta(seconds=seconds(text))
    except (ValueError, OverflowError):
        detail = (
            f"{shown(text)} is neither a duration like 7d or 12h"
            " nor a moment like 2026-07-01T08:00:00Z"
        )
        raise WrongInput([Problem(name, detail)]) from None
