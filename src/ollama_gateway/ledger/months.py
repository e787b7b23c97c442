"""Monthly partitions of the audit log in PostgreSQL: created ahead, dropped when past.

Attaching a partition locks the default partition for a moment, and dropping one locks the whole
table, even against readers. A waiting lock blocks all later ones, so both run under a short lock
timeout, one month per transaction, and the caller retries later.

PostgreSQL has `DETACH PARTITION ... CONCURRENTLY`, but not for tables with a default partition.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import attrs

from ollama_gateway.ledger.daily_sums import keep_past

if TYPE_CHECKING:
    from ollama_gateway.storage.postgres import Cursor

AHEAD: Final = 3
"""Months for which partitions are created, the current one included."""
_LOCK: Final = 0x6F_67_77_03
"""The advisory lock of creating and dropping months; `ogw` in ASCII and a number."""
_FORM: Final = "gateway_audit_%Y_%m"


@attrs.frozen
class DroppedMonth:
    """A partition that was dropped."""

    name: str
    records: int
    since: str | None
    """When its first and last request began; None if it was empty."""
    until: str | None


def months(now: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield the current and the next months: the start of each, and of the one after."""
    first = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for _ in range(AHEAD):
        following = _next(first)
        yield first, following
        first = following


def name_of(first: datetime) -> str:
    """Return the partition of the month that begins then."""
    return first.strftime(_FORM)


def make(cursor: Cursor, first: datetime, following: datetime) -> bool:
    """Create a partition and move the month's records into it; False if it exists."""
    name = name_of(first)
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    found = cursor.execute("SELECT to_regclass(%s)", (name,)).fetchone()
    if found is not None and found[0] is not None:
        return False
    span = (first.isoformat(), following.isoformat())
    cursor.execute(f"CREATE TABLE {name} (LIKE gateway_audit INCLUDING ALL)".encode())
    cursor.execute(
        f"""WITH moved AS (
            DELETE FROM gateway_audit_default WHERE started_at >= %s AND started_at < %s RETURNING *
        ) INSERT INTO {name} SELECT * FROM moved""".encode(),  # noqa: S608 - made of a date
        span,
    )
    cursor.execute(
        f"ALTER TABLE gateway_audit ATTACH PARTITION {name}"
        f" FOR VALUES FROM ('{span[0]}') TO ('{span[1]}')".encode()
    )
    return True


def ended_before(cursor: Cursor, limit: datetime) -> list[str]:
    """Return the partitions of months that ended before a moment, oldest first."""
    found = cursor.execute(
        """SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'gateway_audit'::regclass
        AND relname ~ '^gateway_audit_[0-9]{4}_(0[1-9]|1[0-2])$' ORDER BY relname"""
    )
    return [name for (name,) in found if _end_of(name) <= limit]


def drop(cursor: Cursor, name: str) -> DroppedMonth:
    """Drop the partition of a month; keep its sums, and the checkpoint of each journal in it."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    cursor.execute(f"LOCK TABLE {name} IN SHARE MODE".encode())  # later inserts wait, and then fail
    counted = cursor.execute(
        f"""SELECT count(*), (min(started_at) AT TIME ZONE 'UTC')::text || 'Z',
            (max(started_at) AT TIME ZONE 'UTC')::text || 'Z' FROM {name}""".encode()  # noqa: S608
    ).fetchone()
    cursor.execute(_checkpoints(name))
    keep_past(cursor, name, _start_of(name), _end_of(name))
    cursor.execute(f"DROP TABLE {name}".encode())
    return DroppedMonth(name, *(counted or (0, None, None)))


def _next(first: datetime) -> datetime:
    year, month = divmod(first.year * 12 + first.month, 12)
    return first.replace(year=year, month=month + 1)


def _start_of(name: str) -> datetime:
    return datetime.strptime(name, _FORM).replace(tzinfo=UTC)


def _end_of(name: str) -> datetime:
    return _next(_start_of(name))


def _checkpoints(name: str) -> bytes:
    """Store the last record of each journal in a partition."""
    return f"""INSERT INTO gateway_audit_anchors AS kept (journal, seq, hash)
        SELECT DISTINCT ON (journal) journal, seq, hash FROM {name} ORDER BY journal, seq DESC
        ON CONFLICT (journal) DO UPDATE SET seq = excluded.seq, hash = excluded.hash
        WHERE kept.seq < excluded.seq""".encode()  # noqa: S608 - a name made of digits
