"""The audit log read from PostgreSQL: a page at a time, each in a transaction of its own.

The records of a journal arrive in order, a batch at a time, so a reader that has read up to a seq
has missed nothing before it. A page begins after the last record of the one before, by the index
over journal and seq: a table of any length takes the memory of one page, and nothing is held open
between two. Everything here blocks and raises DatabaseError.
"""

from __future__ import annotations

from typing import Any, Final

import attrs

from ollama_gateway.ledger.chain import Checkpoint, Link
from ollama_gateway.ledger.postgres import COLUMNS
from ollama_gateway.ledger.read.journals import RawRecord, TimeRange
from ollama_gateway.ledger.read.records import MAX_INT64, as_text
from ollama_gateway.storage.database import Timeouts

TIMEOUTS: Final = Timeouts(statement=30, lock=5, idle=30)
"""For a person who waits for the answer; the table may be large."""

# One look into the index for each journal; DISTINCT would read the whole index.
_JOURNALS: Final = """WITH RECURSIVE known AS (
        (SELECT journal FROM gateway_audit ORDER BY journal LIMIT 1)
        UNION ALL SELECT (SELECT journal FROM gateway_audit AS later
            WHERE later.journal > known.journal ORDER BY journal LIMIT 1)
        FROM known WHERE known.journal IS NOT NULL
    ) SELECT journal FROM known WHERE journal IS NOT NULL"""
_LAST: Final = """SELECT seq FROM gateway_audit WHERE journal = %s ORDER BY seq DESC LIMIT 1"""
_ROWS: Final = "SELECT seq, document FROM gateway_audit WHERE journal = %s"
_FIND: Final = """SELECT journal, seq, document FROM gateway_audit WHERE request_id = %s
    ORDER BY started_at LIMIT 1"""
_CHECKPOINTS: Final = "SELECT journal, seq, hash FROM gateway_audit_anchors"
_COUNT: Final = """SELECT count(*) FROM gateway_audit
    WHERE journal = %s AND seq > %s AND seq <= %s"""
_HAS_HASH: Final = """SELECT FROM gateway_audit WHERE journal = %s AND hash = %s
    UNION ALL SELECT FROM gateway_audit_anchors WHERE journal = %s AND hash = %s LIMIT 1"""
# This prints every moment that PostgreSQL has; some are beyond Python's range.
_BEGAN: Final = """to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US')"""
_TABLE_COLUMNS: Final = ", ".join(_BEGAN if name == "started_at" else name for name in COLUMNS)
# An edited table may have two records with one seq; no page ends between them.
_LIMIT: Final = "FETCH FIRST %s ROWS WITH TIES"
_LINKS: Final = f"""SELECT {_TABLE_COLUMNS} FROM gateway_audit
    WHERE journal = %s AND seq > %s AND seq <= %s ORDER BY seq {_LIMIT}"""  # noqa: S608 - our names


@attrs.frozen
class TableRecord:
    """A record as it stands in PostgreSQL."""

    link: Link
    columns: tuple[Any, ...]
    """All its values, in the order of `COLUMNS`; the moment as a text."""

    @property
    def seq(self) -> int:
        """Its number in its journal."""
        return self.link.seq


class AuditTableReader:
    """Reads the records of all journals that have arrived in PostgreSQL."""

    def __init__(self, url: str) -> None:
        from ollama_gateway.storage.postgres import Database  # noqa: PLC0415

        self._database = Database(url, TIMEOUTS)

    def __repr__(self) -> str:
        return f"<AuditTableReader {self.label}>"

    @property
    def label(self) -> str:
        """`HOST/DATABASE`, for the operator."""
        return self._database.label

    def journals(self) -> list[str]:
        """Return the identities of the journals that have records."""
        return [name for (name,) in self._ask(_JOURNALS)]

    def last(self, journal: str) -> int:
        """Return the seq of a journal's last record; 0 for none."""
        return next((seq for (seq,) in self._ask(_LAST, journal)), 0)

    def page(
        self, journal: str, after: int, upto: int, time_range: TimeRange, size: int
    ) -> list[RawRecord]:
        """Return the records after one seq and up to another, in order."""
        return self._page(
            "AND seq > %s AND seq <= %s", (journal, after, upto), time_range, "", size
        )

    def page_before(
        self, journal: str, before: int, time_range: TimeRange, size: int
    ) -> list[RawRecord]:
        """Return the records before a seq, newest first."""
        return self._page("AND seq < %s", (journal, before), time_range, "DESC", size)

    def find(self, request_id: str) -> tuple[str, int, bytes] | None:
        """Return a request's record: its journal, its seq, its text."""
        for journal, seq, document in self._ask(_FIND, as_text(request_id)):
            return journal, seq, document.encode()
        return None

    def checkpoints(self) -> dict[str, Checkpoint]:
        """Return the checkpoints of the journals that retention has shortened, by identity."""
        return {name: Checkpoint(seq, digest) for name, seq, digest in self._ask(_CHECKPOINTS)}

    def table_records(self, journal: str, after: int, upto: int, size: int) -> list[TableRecord]:
        """Return a chain's records after one seq and up to another, in order."""
        found = self._ask(_LINKS, journal, after, upto, size)
        return [
            TableRecord(Link(record[3], record[0], record[5], record[4]), record)
            for record in found
        ]

    def count(self, journal: str, after: int, upto: int = MAX_INT64) -> int:
        """Return how many records there are after one seq and up to another."""
        return int(self._ask(_COUNT, journal, after, upto)[0][0])

    def has(self, journal: str, digest: bytes) -> bool:
        """Return whether a record or checkpoint of a journal has a hash; False for an empty one."""
        return bool(digest) and bool(self._ask(_HAS_HASH, *(journal, digest) * 2))

    def close(self) -> None:
        """End the connection."""
        self._database.close()

    def _page(
        self, where: str, values: tuple[Any, ...], time_range: TimeRange, order: str, size: int
    ) -> list[RawRecord]:
        if time_range.since is not None:
            where, values = f"{where} AND started_at >= %s", (*values, time_range.since)
        if time_range.until is not None:
            where, values = f"{where} AND started_at < %s", (*values, time_range.until)
        found = self._ask(f"{_ROWS} {where} ORDER BY seq {order} {_LIMIT}", *values, size)
        return [(seq, document.encode()) for seq, document in found]

    def _ask(self, question: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._database.transaction() as cursor:
            return cursor.execute(question.encode(), values).fetchall()
