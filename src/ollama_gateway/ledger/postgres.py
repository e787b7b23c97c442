"""The trail of a fleet, in PostgreSQL: rows come from journals in batches, each once.

A batch is one transaction: COPY into a temporary table, then an insert that leaves alone what is
there already. So a batch whose outcome is unknown may be repeated, and a role that can only insert
is enough. The staging table's columns are written out, as LIKE would need the right to read.

Rows of one month are one partition; a month for which none was made falls into the default one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ollama_gateway.database import Timeouts
from ollama_gateway.ledger.chain import Link

if TYPE_CHECKING:
    from ollama_gateway.postgres import Cursor

TIMEOUTS: Final = Timeouts(statement=10, lock=5, idle=10)
AHEAD: Final = 3
"""Months for which partitions are made, this one included."""

COLUMNS: Final = {
    "request_id": "text",
    "started_at": "timestamptz",
    "journal": "text",
    "seq": "bigint",
    "hash": "bytea",
    "document": "text",
    "key_id": "text",
    "key_name": "text",
    "end_user": "text",
    "endpoint": "text",
    "model": "text",
    "backend": "text",
    "outcome": "text",
    "reason": "text",
    "prompt_tokens": "bigint",
    "completion_tokens": "bigint",
    "tokens_source": "text",
    "spender": "text",
}
_NAMES: Final = ", ".join(COLUMNS)
_TYPED: Final = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
_STAGING: Final = f"CREATE TEMPORARY TABLE audit_staging ({_TYPED}) ON COMMIT DROP".encode()
_COPY: Final = f"COPY audit_staging ({_NAMES}) FROM STDIN".encode()
_INSERT: Final = f"""INSERT INTO gateway_audit ({_NAMES})
    SELECT {_NAMES} FROM audit_staging ON CONFLICT DO NOTHING""".encode()  # noqa: S608 - our names
_EXTRACTED: Final = tuple(COLUMNS)[6:]


class AuditTable:
    """The table, for one thread at a time; every method raises DatabaseError."""

    def __init__(self, url: str) -> None:
        from ollama_gateway.postgres import Database  # noqa: PLC0415 - psycopg only where there is a database

        self._database = Database(url, TIMEOUTS)

    def __repr__(self) -> str:
        return f"<AuditTable {self._database.label}>"

    def store(self, journal: str, links: Sequence[Link]) -> None:
        """Store finished rows of a journal, by its identity; what is there already stays."""
        with self._database.transaction() as cursor:
            cursor.execute(_STAGING)
            with cursor.copy(_COPY) as copy:
                for row in links:
                    copy.write_row(values_of(journal, row))
            cursor.execute(_INSERT)

    def make_partitions(self, now: datetime) -> list[str]:
        """Make those of this month and the next ones; which were made. Only the owner may."""
        made = []
        for first, following in _months(now):
            with self._database.transaction() as cursor:
                if _make(cursor, first, following):
                    made.append(_name(first))
        return made

    def drop_before(self, limit: datetime) -> list[str]:
        """Drop the partitions of months that ended before a moment; which. Only the owner may."""
        dropped = []
        with self._database.transaction() as cursor:
            for name in _partitions(cursor):
                if _end_of(name) <= limit:
                    cursor.execute(_anchors(name))
                    cursor.execute(f"DROP TABLE {name}".encode())
                    dropped.append(name)
        return dropped

    def close(self) -> None:
        """End the connection."""
        self._database.close()


def values_of(journal: str, row: Link) -> tuple[Any, ...]:
    """What the table's columns hold of a row, in their order."""
    document = _document(row.document)
    fields = (_fitting(document.get(name), COLUMNS[name]) for name in _EXTRACTED)
    began = _moment(document.get("started_at"))
    request_id, text = _text(row.request_id), _text(row.document)
    return (request_id, began, journal, row.seq, row.hash, text, *fields)


def _fitting(value: object, kind: str) -> str | int | None:
    """The value as its column takes it, or nothing: the document has it all the same."""
    if kind == "bigint":
        return value if type(value) is int and 0 <= value < 2**63 else None
    return _text(value) if isinstance(value, str) else None


def _text(value: str) -> str:
    """The text without what PostgreSQL holds in none; only a row that somebody spoilt has such."""
    return value.replace("\x00", "").encode(errors="replace").decode()


def _document(text: str) -> dict[str, Any]:
    """What the row says; nothing where somebody has made it unreadable: it is stored all the same,
    for `audit verify` to name it.
    """
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _moment(text: object) -> datetime:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        moment = datetime.fromtimestamp(0, UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _months(now: datetime) -> Iterator[tuple[datetime, datetime]]:
    first = _month_of(now)
    for _ in range(AHEAD):
        following = _next(first)
        yield first, following
        first = following


def _month_of(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _next(first: datetime) -> datetime:
    year, month = divmod(first.year * 12 + first.month, 12)
    return first.replace(year=year, month=month + 1)


def _name(first: datetime) -> str:
    return f"gateway_audit_{first:%Y_%m}"


def _end_of(name: str) -> datetime:
    return _next(datetime.strptime(name, "gateway_audit_%Y_%m").replace(tzinfo=UTC))


def _make(cursor: Cursor, first: datetime, following: datetime) -> bool:
    """Whether it was made now; rows of that month in the default partition come along."""
    name = _name(first)
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


def _partitions(cursor: Cursor) -> list[str]:
    """The partitions of months."""
    found = cursor.execute(
        """SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'gateway_audit'::regclass
        AND relname ~ '^gateway_audit_[0-9]{4}_[0-9]{2}$' ORDER BY relname"""
    )
    return [name for (name,) in found]


def _anchors(name: str) -> bytes:
    """Note the last row of each journal in a partition."""
    return f"""INSERT INTO gateway_audit_anchors AS kept (journal, seq, hash)
        SELECT DISTINCT ON (journal) journal, seq, hash FROM {name} ORDER BY journal, seq DESC
        ON CONFLICT (journal) DO UPDATE SET seq = excluded.seq, hash = excluded.hash
        WHERE kept.seq < excluded.seq""".encode()  # noqa: S608 - a name made of digits
