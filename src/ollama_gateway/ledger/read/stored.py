"""The audit log read from PostgreSQL: a page at a time, each in a transaction of its own.

The records of a journal arrive in order, a batch at a time, so a reader that has read up to a seq
has missed nothing before it. A page begins after the last record of the one before, by the index
over journal and seq: a table of any length takes the memory of one page, and nothing is held open
between two. Everything here blocks and raises DatabaseError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import attrs

from ollama_gateway.ledger.chain import Checkpoint, Link
from ollama_gateway.ledger.daily_sums import REQUESTS
from ollama_gateway.ledger.facts import SUMMED
from ollama_gateway.ledger.postgres import COLUMNS, values_of
from ollama_gateway.ledger.read.conditions import (
    BEGAN,
    alternatives_of,
    conditions_of,
    expression_of,
    kind_condition,
)
from ollama_gateway.ledger.read.daily_sums_reader import DailySums, read_sums
from ollama_gateway.ledger.read.filtering import Filter
from ollama_gateway.ledger.read.grouping import SUMS, GroupSum, group_from
from ollama_gateway.ledger.read.page import MAX_INT64, Page, RawRecord
from ollama_gateway.ledger.read.records import as_text
from ollama_gateway.storage.database import Timeouts
from ollama_gateway.storage.migrations.indexes import INDEXES

TIMEOUTS: Final = Timeouts(statement=30, lock=5, idle=30)
"""For a person who waits for the answer; the table may be large."""
TURN: Final = 100_000
"""Records summed in one statement."""

# One look into the index for each journal; DISTINCT would read the whole index.
_JOURNALS: Final = """WITH RECURSIVE known AS (
        (SELECT journal FROM gateway_audit ORDER BY journal LIMIT 1)
        UNION ALL SELECT (SELECT journal FROM gateway_audit AS later
            WHERE later.journal > known.journal ORDER BY journal LIMIT 1)
        FROM known WHERE known.journal IS NOT NULL
    ) SELECT journal FROM known WHERE journal IS NOT NULL"""
_LAST: Final = """SELECT seq FROM gateway_audit WHERE journal = %(journal)s
    ORDER BY seq DESC LIMIT 1"""
# An edited table may have two records with one seq; no page ends between them.
_LIMIT: Final = "FETCH FIRST %(size)s ROWS WITH TIES"
_NEWS: Final = f"""SELECT known.journal, newest.seq, more.seq, more.document
    FROM ({_JOURNALS}) AS known
    LEFT JOIN unnest(%(journals)s::text[], %(afters)s::bigint[]) AS reached (journal, seq)
        ON reached.journal = known.journal
    CROSS JOIN LATERAL (SELECT seq FROM gateway_audit AS own WHERE own.journal = known.journal
        ORDER BY seq DESC LIMIT 1) AS newest
    LEFT JOIN LATERAL (SELECT seq, document FROM gateway_audit AS own
        WHERE own.journal = known.journal AND own.seq > coalesce(reached.seq, 0)
        ORDER BY seq {_LIMIT}) AS more ON TRUE
    ORDER BY known.journal, more.seq"""  # noqa: S608 - our names
# Materialized, so that the index over the moments answers it, and not that over seq from its begin.
_SINCE: Final = f"""WITH recent AS MATERIALIZED (SELECT journal, seq FROM gateway_audit
        WHERE started_at >= %(since)s LIMIT %(most)s + 1),
    found AS (SELECT journal, min(seq) AS seq FROM recent GROUP BY journal)
    SELECT known.journal, coalesce(found.seq, newest.seq + 1)
    FROM ({_JOURNALS}) AS known LEFT JOIN found ON found.journal = known.journal
    CROSS JOIN LATERAL (SELECT seq FROM gateway_audit AS own WHERE own.journal = known.journal
        ORDER BY seq DESC LIMIT 1) AS newest
    WHERE (SELECT count(*) FROM recent) <= %(most)s"""  # noqa: S608 - our names
_WHOLE: Final = """SELECT count(*) FROM unnest(%(names)s::text[]) AS name
    JOIN pg_index ON indexrelid = to_regclass(name) WHERE indisvalid"""
_ROWS: Final = "SELECT seq, document FROM gateway_audit WHERE journal = %(journal)s"
_FIND: Final = """SELECT journal, seq, document FROM gateway_audit WHERE request_id = %(id)s
    ORDER BY started_at LIMIT 1"""
_CHECKPOINTS: Final = "SELECT journal, seq, hash FROM gateway_audit_anchors"
_RANGE: Final = "journal = %(journal)s AND seq > %(after)s AND seq <= %(upto)s"
_COUNT: Final = f"SELECT count(*) FROM gateway_audit WHERE {_RANGE}"  # noqa: S608 - our names
_END: Final = f"""SELECT seq FROM gateway_audit WHERE {_RANGE}
    ORDER BY seq OFFSET %(turn)s LIMIT 1"""  # noqa: S608 - our names
_HAS_HASH: Final = """SELECT FROM gateway_audit WHERE journal = %(journal)s AND hash = %(hash)s
    UNION ALL SELECT FROM gateway_audit_anchors
    WHERE journal = %(journal)s AND hash = %(hash)s LIMIT 1"""
_TABLE_COLUMNS: Final = ", ".join(
    BEGAN.format(name) if name == "started_at" else name for name in COLUMNS
)
_LINKS: Final = f"""SELECT {_TABLE_COLUMNS} FROM gateway_audit
    WHERE {_RANGE} ORDER BY seq {_LIMIT}"""  # noqa: S608 - our names
# Its columns cannot hold what these documents may say: NUL, halves of characters, huge numbers.
_IS_ODD: Final = " OR ".join(
    [
        r"strpos(document, '\u0000') > 0",
        r"strpos(document, '\ud') > 0",
        *(
            f"""({name} IS NULL AND strpos(document, '"{name}":null') = 0
                AND strpos(document, '"{name}"') > 0)"""
            for name in SUMMED
        ),
    ]
)


@attrs.frozen
class JournalNews:
    """A journal's records that arrived in PostgreSQL after a seq."""

    last: int
    """The seq of the last one that was there."""
    after: int
    """The seq after which these were read."""
    records: list[RawRecord]
    """The first of them."""


class AuditTableReader:
    """Reads the records of all journals that have arrived in PostgreSQL."""

    def __init__(self, url: str) -> None:
        from ollama_gateway.storage.postgres import Database  # noqa: PLC0415

        self._database = Database(url, TIMEOUTS)
        self._has_indexes = False

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
        return next((seq for (seq,) in self._ask(_LAST, journal=journal)), 0)

    def news(self, reached: Mapping[str, int], size: int) -> dict[str, JournalNews]:
        """Return the first records of all journals after those that were reached, by one query.

        Args:
            reached: the seq up to which each known journal was read.
            size: records of each journal.

        """
        values = {"journals": [*reached], "afters": [*reached.values()], "size": size}
        found: dict[str, JournalNews] = {}
        for journal, last, seq, document in self._ask(_NEWS, **values):
            news = found.setdefault(journal, JournalNews(last, reached.get(journal, 0), []))
            if seq is not None:
                news.records.append((seq, document.encode()))
        return found

    def starts(self, since: datetime, most: int) -> dict[str, int]:
        """Return, for each journal, a seq before which no record's request began since a moment.

        It looks at the records of these requests, once for all journals; if there are more than
        `most` of them, it returns nothing.
        """
        return dict(self._ask(_SINCE, since=since.astimezone(UTC), most=most))

    def page(
        self, journal: str, after: int, upto: int, wanted: Filter, size: int
    ) -> Page[RawRecord]:
        """Return some of the records after one seq and up to another that may be wanted."""
        bounds = {"journal": journal, "after": after, "upto": upto, "size": size}
        found = self._first(wanted, "seq > %(after)s AND seq <= %(upto)s", "seq", bounds)
        return Page(found, found[-1][0] if len(found) >= size else upto)

    def page_before(
        self, journal: str, after: int, before: int, wanted: Filter, size: int
    ) -> list[RawRecord]:
        """Return some of the records between two seqs that may be wanted, newest first."""
        bounds = {"journal": journal, "after": after, "before": before, "size": size}
        return self._first(wanted, "seq > %(after)s AND seq < %(before)s", "seq DESC", bounds)

    def sums(
        self, journal: str, after: int, upto: int, wanted: Filter, dimensions: Sequence[str]
    ) -> Page[GroupSum | RawRecord]:
        """Return sums of records after one seq, and those that only documents can give.

        The arguments are those of `JournalReader.sums`.
        """
        where, values = conditions_of(wanted)
        values |= {"journal": journal, "after": after, "upto": upto}
        ends = self._ask(_END, **values, turn=TURN - 1)
        upto = values["upto"] = ends[0][0] if ends else upto
        names = ", ".join(map(expression_of, dimensions))
        counts = ", ".join(SUMS.values())
        groups = ", ".join(str(place) for place in range(1, len(dimensions) + 1))
        source = f"FROM gateway_audit WHERE {_RANGE} AND {REQUESTS} AND {where}"
        sums = f"""SELECT {names}, count(*), {counts}, {BEGAN.format("max(started_at)")}
            {source} AND NOT ({_IS_ODD}) GROUP BY {groups}"""
        odd = f"SELECT seq, document {source} AND ({_IS_ODD}) ORDER BY seq"
        found = [group_from(_numbers(row), dimensions) for row in self._ask(sums, **values)]
        return Page([*found, *self._documents(odd, values)], upto)

    def daily_sums(
        self, wanted: Filter, dimensions: Sequence[str], journals: Iterable[str]
    ) -> DailySums | None:
        """Return the sums of all records there; None if only the records can answer that.

        Args:
            wanted: the filter; a day in part is read from the records.
            dimensions: to group by.
            journals: the identities of those of which it matters how far they have come.

        """
        return read_sums(self._database, wanted, dimensions, journals)

    def find(self, request_id: str) -> tuple[str, int, bytes] | None:
        """Return the record of a request or a change: its journal, its seq, its text."""
        for journal, seq, document in self._ask(_FIND, id=as_text(request_id)):
            return journal, seq, document.encode()
        return None

    def checkpoints(self) -> dict[str, Checkpoint]:
        """Return the checkpoints of the journals that retention has shortened, by identity."""
        return {name: Checkpoint(seq, digest) for name, seq, digest in self._ask(_CHECKPOINTS)}

    def links(self, journal: str, after: int, upto: int, size: int) -> Page[Link]:
        """Return some of the records after one seq, and whether their columns agree with them."""
        values = {"journal": journal, "after": after, "upto": upto, "size": size}
        found = [_link(row) for row in self._ask(_LINKS, **values)]
        return Page(found, found[-1].seq if len(found) >= size else upto)

    def count(self, journal: str, after: int, upto: int = MAX_INT64) -> int:
        """Return how many records there are after one seq and up to another."""
        return int(self._ask(_COUNT, journal=journal, after=after, upto=upto)[0][0])

    def has(self, journal: str, digest: bytes) -> bool:
        """Return whether a record or checkpoint of a journal has a hash; False for an empty one."""
        return bool(digest) and bool(self._ask(_HAS_HASH, journal=journal, hash=digest))

    def close(self) -> None:
        """End the connection."""
        self._database.close()

    def _first(
        self, wanted: Filter, bounded: str, order: str, bounds: dict[str, Any]
    ) -> list[RawRecord]:
        """Return the first records, in an order of seqs, that may be wanted."""
        alternatives, values = alternatives_of(wanted)
        if len(alternatives) > 1 and not self._are_keys_indexed():
            where, values = conditions_of(wanted)  # one walk over all records, and not two
            alternatives = [where]
        ordered, bounded = f"ORDER BY {order} {_LIMIT}", f"{kind_condition(wanted)} AND {bounded}"
        parts = [f"({_ROWS} AND {bounded} AND {where} {ordered})" for where in alternatives]
        union = " UNION ALL ".join(parts)
        select = f"SELECT seq, document FROM ({union}) AS found {ordered}"  # noqa: S608 - our names
        return self._documents(select, values | bounds)

    def _are_keys_indexed(self) -> bool:
        """Whether the indexes of `INDEXES` are whole: `db migrate` builds them last."""
        if not self._has_indexes:
            names = [index.name for index in INDEXES]
            [(count,)] = self._ask(_WHOLE, names=names)
            self._has_indexes = count == len(names)
        return self._has_indexes

    def _documents(self, question: str, values: dict[str, Any]) -> list[RawRecord]:
        return [(seq, document.encode()) for seq, document in self._ask(question, **values)]

    def _ask(self, question: str, **values: Any) -> list[tuple[Any, ...]]:
        with self._database.transaction() as cursor:
            return cursor.execute(question.encode(), values).fetchall()


def _numbers(row: tuple[Any, ...]) -> list[Any]:
    """Return the same row; a sum of bigint is numeric."""
    return [int(value) if isinstance(value, Decimal) else value for value in row]


def _link(row: tuple[Any, ...]) -> Link:
    record = Link(row[3], row[0], row[5], row[4])
    _, began, *rest = row
    _, moment, *meant = values_of(row[2], record)
    return attrs.evolve(record, is_true_to_columns=rest == meant and began == _shown(moment))


def _shown(moment: datetime) -> str:
    """Return the moment as `BEGAN` does."""
    with suppress(OverflowError):
        moment = moment.astimezone(UTC)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds")
