"""Decides when records may be dropped for their age; no single clock is trusted for that.

A clock that runs ahead makes every record old. So nothing is dropped before the wall clock is
*confirmed*: either the last record from before this process is less than a day old, or 6 h have
passed without a doubt. Two things cast doubt, and the 6 h start again: the wall clock jumps against
the steady clock, or it differs from the database's clock by more than a day. A new record confirms
nothing, since the same clock dated it.

A gateway without requests stays confirmed, because its clock has not jumped. A record from the
future means that the clock was wrong for a moment: while it is the last one, nothing is dropped,
for 6 h at most; if old records follow it, it is dropped with them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final

from ollama_gateway.ledger.chain import Link
from ollama_gateway.ledger.document import is_change
from ollama_gateway.log import get_logger

DAY: Final = 86_400.0
"""Seconds by which clocks and records may differ."""
CONFIRMED: Final = 6 * 3600.0
"""Seconds without a doubt after which a clock is confirmed."""
JUMP: Final = 60.0
"""Seconds that the wall clock may gain or lose against the steady one."""
HOUR: Final = 3600.0
"""Seconds between two looks for expired records."""
LOOKED_AT: Final = 100
"""Records at the end of a chain, searched for one that is not from the future."""
TURN: Final = 1000
"""Records dropped or ended in one transaction, while others wait for the journal."""

_log = get_logger("audit")


def steady() -> float:
    """Return seconds on a clock that cannot be set; it counts while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Clocks:
    """Knows whether the wall clock can be trusted to drop records.

    Args:
        wall: the clock that dates records, in seconds since 1970.
        steady: the clock that cannot be set.

    """

    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = steady
    ) -> None:
        self.wall = wall
        self._steady = steady
        self._offset = wall() - steady()
        self._doubt: tuple[str, float] | None = ("the clock is not confirmed yet", steady())
        self._future: tuple[float, float] | None = None
        """The last record if it is from the future, and when that was first seen."""

    def confirm(self, records: Iterable[float]) -> None:
        """Confirm the clock if the records from before this process agree with it.

        Args:
            records: when they began, the last in the chain first; future ones are ignored.

        """
        now = self.wall()
        newest = next((began for began in records if began <= now + DAY), None)
        if newest is not None and now - newest <= DAY:
            self._doubt = None

    def why_not(self, newest: float | None, database: float | None = None) -> str | None:
        """Return why nothing may be dropped now; None if records may be.

        Args:
            newest: when the last record of the chain began; None for none.
            database: the time on the database's clock; None without a database.

        """
        now, steadily = self.wall(), self._steady()
        if abs(now - steadily - self._offset) > JUMP:
            self._offset = now - steadily
            self._doubt = ("the clock has jumped", steadily)
        if database is not None and abs(database - now) > DAY:
            self._doubt = ("the clock and the database's disagree", steadily)
        if self._doubt is not None and steadily - self._doubt[1] >= CONFIRMED:
            self._doubt = None
        return self._doubt[0] if self._doubt else self._future_doubt(newest, now, steadily)

    def _future_doubt(self, newest: float | None, now: float, steadily: float) -> str | None:
        if newest is None or newest <= now + DAY:
            self._future = None
            return None
        if self._future is None or self._future[0] != newest:
            self._future = newest, steadily
        is_over = steadily - self._future[1] >= CONFIRMED
        return None if is_over else "the last record is from the future"


def last_past(records: Iterable[Link], before: float, most: int, now: float) -> Link | None:
    """Return the last expired record among the first `most`; None for none.

    Records are in the order of their ends, so the search stops at the first that is too young. A
    record from the future, or without a readable moment, counts as old as the one after it.

    Args:
        records: in the order of the chain, from the first on.
        before: records that began earlier are expired; seconds since 1970.
        most: how many records may be dropped.
        now: the time on the wall clock.

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
    """Return when a record's request or change began, in seconds since 1970; None if unreadable."""
    try:
        found = json.loads(document)
        began = found["at"] if is_change(found) else found["started_at"]
        return datetime.fromisoformat(began).timestamp()
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError):
        return None


def log_dropped(journal: str, records: int, seqs: tuple[int, int], before: float) -> None:
    """Log dropped records: `audit verify` sees the checkpoint, but not the reason for it."""
    _log.warning(
        "audit rows past their time dropped",
        journal=journal,
        rows=records,
        first=seqs[0],
        last=seqs[1],
        began_before=shown(before),
        clock=shown(time.time()),
    )


def shown(moment: float) -> str:
    """Return a moment for the log: in UTC (RFC 3339), to the second."""
    try:
        return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return str(moment)
