"""The months of the trail in PostgreSQL: a partition each, made ahead and dropped when it is past.

To attach a partition locks the default one for a moment, and to drop one the whole table, against
readers too. So both are done under a short lock timeout, one month a transaction, by who comes back
later: whoever waits for such a lock holds up everybody who comes after.

PostgreSQL has `DETACH PARTITION ... CONCURRENTLY`, but not where there is a default partition.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from ollama_gateway.storage.postgres import Cursor

AHEAD: Final = 3
"""Months for which partitions are made, this one included."""
_LOCK: Final = 0x6F_67_77_03
"""The advisory lock of whoever makes or drops months; `ogw` in ASCII and a number."""
_FORM: Final = "gateway_audit_%Y_%m"


@attrs.frozen
class Dropped:
    """A month that was dropped."""

    name: str
    records: int
    since: str | None
    """When the first and the last of its rows began; None where it had none."""
    until: str | None


def months(now: datetime) -> Iterator[tuple[datetime, datetime]]:
    """This month and the next ones: when each begins, and the one after it."""
    first = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for _ in range(AHEAD):
        following = _next(first)
        yield first, following
        first = following


def name_of(first: datetime) -> str:
    """The partition of the month that begins then."""
    return first.strftime(_FORM)


def make(cursor: Cursor, first: datetime, following: datetime) -> bool:
    """Whether it was made now; rows of that month in the default partition come along."""
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
    """The partitions of months that ended before a moment, the oldest first."""
    found = cursor.execute(
        """SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'gateway_audit'::regclass
        AND relname ~ '^gateway_audit_[0-9]{4}_(0[1-9]|1[0-2])$' ORDER BY relname"""
    )
    return [name for (name,) in found if _end_of(name) <= limit]


def drop(cursor: Cursor, name: str) -> Dropped:
    """Drop the partition of a month; the last row of each journal in it stays as an anchor."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    cursor.execute(f"LOCK TABLE {name} IN SHARE MODE".encode())  # what comes now, comes too late
    counted = cursor.execute(
        f"""SELECT count(*), (min(started_at) AT TIME ZONE 'UTC')::text || 'Z',
            (max(started_at) AT TIME ZONE 'UTC')::text || 'Z' FROM {name}""".encode()  # noqa: S608
    ).fetchone()
    cursor.execute(_checkpoints(name))
    cursor.execute(f"DROP TABLE {name}".encode())
    return Dropped(name, *(counted or (0, None, None)))


def _next(first: datetime) -> datetime:
    year, month = divmod(first.year * 12 + first.month, 12)
    return first.replace(year=year, month=month + 1)


def _end_of(name: str) -> datetime:
    return _next(datetime.strptime(name, _FORM).replace(tzinfo=UTC))


def _checkpoints(name: str) -> bytes:
    """Note the last row of each journal in a partition."""
    return f"""INSERT INTO gateway_audit_anchors AS kept (journal, seq, hash)
        SELECT DISTINCT ON (journal) journal, seq, hash FROM {name} ORDER BY journal, seq DESC
        ON CONFLICT (journal) DO UPDATE SET seq = excluded.seq, hash = excluded.hash
        WHERE kept.seq < excluded.seq""".encode()  # noqa: S608 - a name made of digits
