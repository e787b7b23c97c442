"""Days and months as numbers: the periods of budgets, in UTC."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final

import attrs

MONTHS_KEPT: Final = 2
"""No budget is longer than this month, and a request of last month may still end in this one."""
_EPOCH: Final = date(1970, 1, 1)


@attrs.frozen
class Moment:
    """A moment on the steady clock and in the calendar."""

    time: float
    """Seconds on a clock that never jumps."""
    day: int
    """Days since 1970-01-01."""
    month: int
    """Months since year 0: `12 * year + month - 1`."""
    day_ends: float
    """Seconds until the next day."""
    month_ends: float
    """Seconds until the next month."""


def moment(time: float, now: datetime) -> Moment:
    """Return the moment at which the steady clock shows `time` and the wall clock `now` (aware)."""
    utc = now.astimezone(UTC)
    day, month, next_day, next_month = _periods(utc.date())
    day_ends, month_ends = (next_day - utc).total_seconds(), (next_month - utc).total_seconds()
    return Moment(time, day, month, day_ends, month_ends)


@lru_cache(maxsize=4)  # every request asks, mostly for the same day
def _periods(date: date) -> tuple[int, int, datetime, datetime]:
    """Return the numbers of a day and of its month, and when the next ones begin."""
    midnight = datetime.combine(date, datetime.min.time(), UTC)
    day = (date - _EPOCH).days
    next_month = (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
    return day, month_of(day), midnight + timedelta(days=1), next_month


def month_of(day: int) -> int:
    """Return the month of a day, both as numbers."""
    when = _EPOCH + timedelta(days=day)
    return 12 * when.year + when.month - 1


def first_day_kept(days: AbstractSet[int], this_month: int) -> int:
    """Return the first day whose spending no budget can forget yet; 0 if all days are needed.

    The last two months with spending are kept, and all days that are in the future by the wall
    clock. So a clock that runs ahead makes nothing old until two months were spent in by it.
    """
    months = sorted({month_of(day) for day in days})
    kept = [month for month in months if month <= this_month][-MONTHS_KEPT:]
    return (date(kept[0] // 12, kept[0] % 12 + 1, 1) - _EPOCH).days if kept else 0


def utc_now() -> datetime:
    """Return the time of the wall clock, in UTC."""
    return datetime.now(UTC)
