"""The audit log of a fleet as one: the records in PostgreSQL, and those still in journals here.

A journal's records move to PostgreSQL oldest first, and leave the journal only when they are there.
So a journal and its records in PostgreSQL are one segment, and a seq says how far it was read: up
to the journal's checkpoint records come from PostgreSQL, and after it from the journal. The journal
is always asked first, since a record that has left it is in PostgreSQL already. No record is missed
or doubled, however far they move meanwhile.

Journals of other machines are segments that are in PostgreSQL alone. If PostgreSQL cannot be asked,
that is reported, and everything else is read; a reader that goes on gets the rest once it is back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Final, TypeVar

from ollama_gateway.ledger.read.journals import Journals, JournalSegment, RawRecord, TimeRange
from ollama_gateway.ledger.read.records import MAX_INT64, StoredRecord, read
from ollama_gateway.ledger.read.reporting import OncePerFault, ReportFault
from ollama_gateway.ledger.read.stored import AuditTableReader
from ollama_gateway.storage.database import DatabaseError

FIRST: Final = 8
"""Records of a segment's first page: there may be thousands of segments, few of which overlap."""
PAGE: Final = 1000
"""Records of its largest page."""

T = TypeVar("T")
ReadRecord = Callable[[int, bytes], Iterator[StoredRecord]]
PageRecord = tuple[int, bytes, ReadRecord]
"""A record's seq and text, and the function that reads it."""


def walked(
    cursor: JournalCursor | JoinedSegment,
    local: Callable[[int], tuple[int, list[T]]],
    stored: Callable[[int, int], list[T]],
    seq_of: Callable[[T], int],
) -> Iterator[T]:
    """Yield a journal's records after a cursor, each once and in order, and move the cursor.

    Args:
        cursor: the position to start from.
        local: returns the seq of the journal's checkpoint, and its next records after a seq.
        stored: returns the next records in PostgreSQL after one seq and up to another.
        seq_of: returns the seq of a record.

    """
    while True:
        checkpoint, page = local(cursor.after)
        if checkpoint <= cursor.after and page:
            yield from _passed(cursor, page, seq_of)
            continue
        upto = checkpoint if checkpoint > cursor.after else MAX_INT64
        while cursor.after < upto and (page := stored(cursor.after, upto)):
            yield from _passed(cursor, page, seq_of)
        if upto == MAX_INT64:
            return
        cursor.after = upto  # records in between that were not found no longer exist


def _passed(
    cursor: JournalCursor | JoinedSegment, page: list[T], seq_of: Callable[[T], int]
) -> Iterator[T]:
    for record in page:
        cursor.after = seq_of(record)
        yield record


class JournalCursor:
    """A bare position in a journal."""

    def __init__(self, after: int) -> None:
        self.after = after


class TableSource:
    """PostgreSQL, which may be away: that is reported, and it is not asked again until `retry`."""

    def __init__(self, table: AuditTableReader, report: ReportFault) -> None:
        self.label = table.label
        self._table = table
        self._report = OncePerFault(report)
        self._is_away = False

    def __repr__(self) -> str:
        return f"<TableSource {self.label}>"

    def retry(self) -> None:
        """Ask it again, even if it failed."""
        self._is_away = False

    def ask(self, question: Callable[[AuditTableReader], T]) -> T | None:
        """Return its answer; None if it cannot be asked."""
        if self._is_away:
            return None
        try:
            return question(self._table)
        except DatabaseError as error:
            self._is_away = True
            self._report(str(error))
            return None

    def read(self, journal: str, seq: int, text: bytes) -> Iterator[StoredRecord]:
        """Yield the record with this text; nothing, and a report, if it is damaged."""
        try:
            yield read(f"PostgreSQL, journal {journal}", seq, text)
        except ValueError:
            self._report(
                f"PostgreSQL: record {seq} of journal {journal} is not as this program writes it"
            )


class JoinedSegment:
    """One journal, wherever its records are."""

    def __init__(self, identity: str, table: TableSource) -> None:
        self.identity = identity
        self.local: JournalSegment | None = None
        """The part on this machine."""
        self.after = 0
        self._table = table
        self._read_stored: ReadRecord = partial(table.read, identity)
        self._skipped: list[tuple[int, int]] = []
        """Ranges of seqs that were due while PostgreSQL was away."""

    def __repr__(self) -> str:
        return f"<JoinedSegment {self.identity}, read up to {self.after}>"

    @property
    def last(self) -> int:
        """The seq of the last record that is there now; 0 for none."""
        local = self.local.last if self.local else 0
        return local or self._table.ask(lambda table: table.last(self.identity)) or 0

    def records(self, time_range: TimeRange) -> Iterator[StoredRecord]:
        """Yield the records after `after`, in order, and move it."""
        stored = partial(self._stored_page, time_range, _sizes())
        skipped, self._skipped = self._skipped, []
        late = (self._late(after, upto, stored) for after, upto in skipped)
        walk = walked(self, partial(self._local_page, time_range), stored, _seq_of)
        for seq, text, read_record in chain(*late, walk):
            yield from read_record(seq, text)

    def backwards(self, time_range: TimeRange) -> Iterator[StoredRecord]:
        """Yield all records, newest first."""
        sizes, before = _sizes(), JournalCursor(MAX_INT64)
        while page := self._page_before(before.after, time_range, sizes):
            for seq, text, read_record in _passed(before, page, _seq_of):
                yield from read_record(seq, text)

    def _late(
        self, after: int, upto: int, stored: Callable[[int, int], list[PageRecord]]
    ) -> Iterator[PageRecord]:
        """Yield records that could not be read in their turn."""
        cursor = JournalCursor(after)
        while page := stored(cursor.after, upto):
            yield from _passed(cursor, page, _seq_of)

    def _local_page(self, time_range: TimeRange, after: int) -> tuple[int, list[PageRecord]]:
        if self.local is None:
            return 0, []
        checkpoint, page = self.local.page(after, time_range)
        return checkpoint, _page_records(page, self.local.read)

    def _stored_page(
        self, time_range: TimeRange, sizes: Iterator[int], after: int, upto: int
    ) -> list[PageRecord]:
        size = next(sizes)
        page = self._table.ask(
            lambda table: table.page(self.identity, after, upto, time_range, size)
        )
        if page is None and upto < MAX_INT64:
            self._skipped.append((after, upto))
        return _page_records(page or [], self._read_stored)

    def _page_before(
        self, before: int, time_range: TimeRange, sizes: Iterator[int]
    ) -> list[PageRecord]:
        if self.local and (page := self.local.page_before(before, time_range)):
            return _page_records(page, self.local.read)
        size = next(sizes)
        stored = self._table.ask(
            lambda table: table.page_before(self.identity, before, time_range, size)
        )
        return _page_records(stored or [], self._read_stored)


class AuditLog:
    """The journals of a data directory, and PostgreSQL.

    Args:
        journals: of the directory.
        table: the records in PostgreSQL.

    """

    def __init__(self, journals: Journals, table: TableSource) -> None:
        self._journals = journals
        self._table = table
        self._segments: dict[str, JoinedSegment] = {}

    def segments(self) -> Sequence[JoinedSegment]:
        """Return all that there are now, of this machine and of others."""
        self._table.retry()
        for local in self._journals.segments():
            if identity := local.identity():
                self._segment(identity).local = local
        for identity in self._table.ask(AuditTableReader.journals) or ():
            self._segment(identity)
        return list(self._segments.values())

    def running(self) -> Iterator[StoredRecord]:
        """Yield the requests that were admitted on this machine and have not ended."""
        return self._journals.running()

    def find(self, request_id: str) -> StoredRecord | None:
        """Return the record of a request, ended or not."""
        if found := self._journals.find(request_id):
            return found
        stored = self._table.ask(lambda table: table.find(request_id))
        return next(self._table.read(*stored), None) if stored else None

    def _segment(self, identity: str) -> JoinedSegment:
        return self._segments.setdefault(identity, JoinedSegment(identity, self._table))


def _sizes() -> Iterator[int]:
    size = FIRST
    while True:
        yield min(size, PAGE)
        size *= 4


def _page_records(page: list[RawRecord], read_record: ReadRecord) -> list[PageRecord]:
    return [(seq, text, read_record) for seq, text in page]


def _seq_of(record: PageRecord) -> int:
    return record[0]
