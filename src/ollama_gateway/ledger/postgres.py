"""The audit log of a fleet in PostgreSQL: records arrive from journals in batches, each once.

A batch is one transaction: COPY into a temporary table, then an insert that skips records that are
already there. So a batch whose outcome is unknown may be repeated, and a role that can only insert
is enough. The staging table's columns are written out, as LIKE would need the right to read.

The records of one month form a partition (`months.py`); those of a month without a partition go to
the default one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from ollama_gateway.ledger import months
from ollama_gateway.ledger.chain import Link
from ollama_gateway.ledger.document import CHANGE, is_change
from ollama_gateway.ledger.record import RECORD_FIELDS
from ollama_gateway.storage.database import DatabaseError, Timeouts

TIMEOUTS: Final = Timeouts(statement=10, lock=5, idle=10)
UPKEEP: Final = Timeouts(statement=600, lock=0.5, idle=10)
"""For months: a statement that waits for their locks blocks all others; a month may be large."""

_FIELDS: Final = {field.name: field.form.column for field in RECORD_FIELDS if field.is_column}
_KEYS: Final = ("request_id", "started_at")
_EXTRACTED: Final = tuple(name for name in _FIELDS if name not in _KEYS)
COLUMNS: Final = {
    **{name: _FIELDS[name] for name in _KEYS},
    "journal": "text",
    "seq": "bigint",
    "hash": "bytea",
    "document": "text",
    **{name: _FIELDS[name] for name in _EXTRACTED},
    "kind": "text",
}
"""The columns with their types: key, link of the chain, the fields to filter and sum by, and
`change` as the kind of the record of a change; NULL for a request."""
_NOTHING: Final = (None,) * len(_EXTRACTED)
_NAMES: Final = ", ".join(COLUMNS)
_TYPED: Final = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
_STAGING: Final = f"CREATE TEMPORARY TABLE audit_staging ({_TYPED}) ON COMMIT DROP".encode()
_COPY: Final = f"COPY audit_staging ({_NAMES}) FROM STDIN".encode()
_INSERT: Final = f"""INSERT INTO gateway_audit ({_NAMES})
    SELECT {_NAMES} FROM audit_staging ON CONFLICT DO NOTHING""".encode()  # noqa: S608 - our names
_LAST_BEGAN: Final = b"""SELECT extract(epoch FROM started_at)::float8 FROM gateway_audit
    WHERE journal = %s AND seq <= %s ORDER BY seq DESC LIMIT %s"""


class AuditTable:
    """The table, for one thread at a time. Every method blocks and raises DatabaseError."""

    def __init__(self, url: str, timeouts: Timeouts = TIMEOUTS) -> None:
        from ollama_gateway.storage.postgres import Database  # noqa: PLC0415

        self._database = Database(url, timeouts)

    def __repr__(self) -> str:
        return f"<AuditTable {self._database.label}>"

    def store(self, journal: str, links: Sequence[Link]) -> None:
        """Store finished records of a journal, by its identity; those already there stay."""
        with self._database.transaction() as cursor:
            cursor.execute(_STAGING)
            with cursor.copy(_COPY) as copy:
                for record in links:
                    copy.write_row(values_of(journal, record))
            cursor.execute(_INSERT)

    def now(self) -> datetime:
        """Return the time on PostgreSQL's clock."""
        with self._database.transaction() as cursor:
            found = cursor.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
            return datetime.fromtimestamp(next(found)[0], UTC)

    def last_began(self, journal: str, upto: int, count: int) -> list[float]:
        """Return when the last `count` records up to a seq began, newest first; s since 1970."""
        with self._database.transaction() as cursor:
            found = cursor.execute(_LAST_BEGAN, (journal, upto, count))
            return [began for (began,) in found]

    def make_partitions(self, now: datetime) -> list[str]:
        """Make the missing ones of this month and the next; return their names. Owner only."""
        made = []
        for first, following in months.months(now):
            try:
                with self._database.transaction() as cursor:
                    is_new = months.make(cursor, first, following)
            except DatabaseError as error:
                if not error.is_duplicate:
                    raise
                is_new = False
            if is_new:
                made.append(months.name_of(first))
        return made

    def partitions_before(self, limit: datetime) -> list[str]:
        """Return the partitions of months that ended before `limit`."""
        with self._database.transaction() as cursor:
            return months.ended_before(cursor, limit)

    def drop_partition(self, name: str) -> months.DroppedMonth:
        """Drop a partition; its last records stay as checkpoints. Owner only."""
        with self._database.transaction() as cursor:
            return months.drop(cursor, name)

    def close(self) -> None:
        """End the connection."""
        self._database.close()


def values_of(journal: str, record: Link) -> tuple[Any, ...]:
    """Return the values of the table's columns for a record, in their order."""
    document = _document(record.document)
    request_id, text = _text(record.request_id), _text(record.document)
    link = (journal, record.seq, record.hash, text)
    if is_change(document):
        return (request_id, _moment(document.get("at")), *link, *_NOTHING, CHANGE)
    fields = (_fitting(document.get(name), COLUMNS[name]) for name in _EXTRACTED)
    return (request_id, _moment(document.get("started_at")), *link, *fields, None)


def _fitting(value: object, kind: str) -> str | int | None:
    """Return the value if its column can hold it, else None; the document keeps it anyway."""
    if kind == "bigint":
        return value if type(value) is int and 0 <= value < 2**63 else None
    return _text(value) if isinstance(value, str) else None


def _text(value: str) -> str:
    """Return the text without characters that PostgreSQL refuses; only altered records have any."""
    return value.replace("\x00", "").encode(errors="replace").decode()


def _document(text: str) -> dict[str, Any]:
    """Return the parsed document; {} if it is not an object of JSON.

    Such a record was altered; it is stored all the same, for `audit verify` to name it.
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
