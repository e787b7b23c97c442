"""When rows may be dropped for their age: no single clock decides that.

A clock that runs ahead makes every row old. So nothing is dropped before the wall clock is
*confirmed*: by the last row that was there before this process, which is less than a day old, or by
6 h in which nothing spoke against the clock. Against it speak a jump beside the clock that only
counts seconds, and a database whose clock is more than a day away: from then on it takes 6 h again.
A new row confirms nothing, as it bears the same clock.

A gateway that nobody asks stays confirmed: its clock has not jumped since. A row from the future is
a clock that was wrong for a moment: nothing is dropped while it is the last one, for 6 h at most,
and where it stands in front of old rows it goes with them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final

from ollama_gateway.ledger.chain import Link
from ollama_gateway.log import get_logger

DAY: Final = 86_400.0
"""Seconds that clocks and rows may be apart."""
CONFIRMED: Final = 6 * 3600.0
"""Seconds without a doubt that confirm a clock."""
JUMP: Final = 60.0
"""Seconds that the wall clock may gain or lose beside the steady one."""
HOUR: Final = 3600.0
"""Seconds between two looks for rows that are past their time."""
LOOKED_AT: Final = 100
"""Rows at the end of a chain, among which one is sought that is not from the future."""
TURN: Final = 1000
"""Rows that are dropped, or ended, in one transaction: others wait for the journal meanwhile."""

_log = get_logger("audit")


def steady() -> float:
    """Seconds on a clock that nobody sets; the time that a machine slept is among them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Clocks:
    """What is known of the wall clock, for whoever drops rows.

    Args:
        wall: the clock that rows bear, in seconds since 1970.
        steady: the clock that nobody sets.

    """

    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = steady
    ) -> None:
        self.wall = wall
        self._steady = steady
        self._offset = wall() - steady()
        self._doubt: tuple[str, float] | None = ("the clock is not confirmed yet", steady())
        self._odd: tuple[float, float] | None = None
        """The last row, where it is from the future, and since when it has been that."""

    def confirm(self, records: Iterable[float]) -> None:
        """Believe the clock if rows do that are older than this process.

        Args:
            rows: when they began, the last in the chain first; those from the future say nothing.

        """
        now = self.wall()
        newest = next((began for began in records if began <= now + DAY), None)
        if newest is not None and now - newest <= DAY:
            self._doubt = None

    def why_not(self, newest: float | None, database: float | None = None) -> str | None:
        """Why nothing may be dropped now; None where something may.

        Args:
            newest: when the last row of the chain began; None for none.
            database: what the database's clock says, where there is one.

        """
        now, steadily = self.wall(), self._steady()
        if abs(now - steadily - self._offset) > JUMP:
            self._offset = now - steadily
            self._doubt = ("the clock has jumped", steadily)
        if database is not None and abs(database - now) > DAY:
            self._doubt = ("the clock and the database's disagree", steadily)
        if self._doubt is not None and steadily - self._doubt[1] >= CONFIRMED:
            self._doubt = None
        return self._doubt[0] if self._doubt else self._oddity(newest, now, steadily)

    def _oddity(self, newest: float | None, now: float, steadily: float) -> str | None:
        if newest is None or newest <= now + DAY:
            self._odd = None
            return None
        if self._odd is None or self._odd[0] != newest:
            self._odd = newest, steadily
        is_over = steadily - self._odd[1] >= CONFIRMED
        return None if is_over else "the last row is from the future"


def last_past(records: Iterable[Link], before: float, most: int, now: float) -> Link | None:
    """The last of the rows that are past their time, of the first `most`; None for none.

    Rows lie in the order of their ends, so it stops at the first that is too young. One from the
    future, or that says no moment, is as old as what comes after it.

    Args:
        rows: in the order of the chain, from the first on.
        before: rows that began before are past their time; seconds since 1970.
        most: rows that may be dropped.
        now: what the wall clock says.

    """
    last = furthest = None
    for number, record in enumerate(records, 1):
        furthest = record if number <= most else furthest
        began = began_of(record.document)
        if began is not None and began < before:
            last = furthest
            if number >= most:
                break
        elif began is not None and began <= now + DAY:
            break
    return last


def began_of(document: str) -> float | None:
    """When a row's request began, in seconds since 1970; None where that cannot be read."""
    try:
        return datetime.fromisoformat(json.loads(document)["started_at"]).timestamp()
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None


def log_dropped(journal: str, records: int, places: tuple[int, int], before: float) -> None:
    """Log what a journal has lost to its age: `audit verify` knows its anchor, and not why."""
    _log.warning(
        "audit rows past their time dropped",
        journal=journal,
        rows=records,
        first=places[0],
        last=places[1],
        began_before=shown(before),
        clock=shown(time.time()),
    )


def shown(moment: float) -> str:
    """For the log: in UTC (RFC 3339), to the second."""
    try:
        return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return str(moment)
