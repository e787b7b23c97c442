"""The trail of a fleet as one: what is in PostgreSQL, and what is still in journals here.

A journal's rows move to PostgreSQL from the oldest on, and leave the journal only when they are
there. So a journal and its rows in PostgreSQL are one strand, and a place in it says all that is
read: up to where the journal was shortened rows come from PostgreSQL, and from there on out of the
journal. The journal is always asked first: what is gone from it by then is in PostgreSQL already.
No row is missed or doubled, however far they move meanwhile.

Journals of other machines are strands that are in PostgreSQL alone. Where PostgreSQL cannot be
asked, that is told, and everything else is read; who goes on reading gets the rest when it is back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Final, Protocol, TypeVar

from ollama_gateway.ledger.read.journals import Journals, JournalSegment, RawRecord, TimeRange
from ollama_gateway.ledger.read.records import MAX_INT64, StoredRecord, read
from ollama_gateway.ledger.read.reporting import OncePerFault, ReportFault
from ollama_gateway.ledger.read.stored import AuditTableReader
from ollama_gateway.storage.database import DatabaseError

FIRST: Final = 8
"""Rows of a strand's first page: there may be thousands of strands, and few overlap in time."""
PAGE: Final = 1000
"""Rows of the largest one."""

T = TypeVar("T")
ReadRecord = Callable[[int, bytes], Iterator[StoredRecord]]
PageRecord = tuple[int, bytes, ReadRecord]


class Positioned(Protocol):
    """How far something was read."""

    after: int
    """The place; may be set."""


def walked(
    cursor: Positioned,
    local: Callable[[int], tuple[int, list[T]]],
    stored: Callable[[int, int], list[T]],
    place: Callable[[T], int],
) -> Iterator[T]:
    """The rows of a journal that are after a cursor, each once and in order; moves it.

    Args:
        cursor: from where on.
        local: up to where the journal was shortened, and its next rows after a place.
        stored: the next rows in PostgreSQL after a place and up to another one.
        place: of a row.

    """
    while True:
        checkpoint, page = local(cursor.after)
        if checkpoint <= cursor.after and page:
            yield from _passed(cursor, page, place)
            continue
        upto = checkpoint if checkpoint > cursor.after else MAX_INT64
        while cursor.after < upto and (page := stored(cursor.after, upto)):
            yield from _passed(cursor, page, place)
        if upto == MAX_INT64:
            return
        cursor.after = upto  # what was not there is nowhere


def _passed(cursor: Positioned, page: list[T], place: Callable[[T], int]) -> Iterator[T]:
    for record in page:
        cursor.after = place(record)
        yield record


class JournalCursor:
    """A cursor, and nothing more."""

    def __init__(self, after: int) -> None:
        self.after = after


class TableSource:
    """PostgreSQL, which may be away: then that is told, and it is left alone until `retry`."""

    def __init__(self, records: AuditTableReader, report: ReportFault) -> None:
        self.label = records.label
        self._rows = records
        self._complain = OncePerFault(report)
        self._is_away = False

    def __repr__(self) -> str:
        return f"<Store {self.label}>"

    def retry(self) -> None:
        """Ask it again, even if it failed."""
        self._is_away = False

    def ask(self, question: Callable[[AuditTableReader], T]) -> T | None:
        """What it answers; None where it cannot be asked."""
        if self._is_away:
            return None
        try:
            return question(self._rows)
        except DatabaseError as error:
            self._is_away = True
            self._complain(str(error))
            return None

    def read(self, journal: str, seq: int, text: bytes) -> Iterator[StoredRecord]:
        """The row of a place; nothing, and a word about it, where it is spoilt."""
        try:
            yield read(f"PostgreSQL, journal {journal}", seq, text)
        except ValueError:
            self._complain(
                f"PostgreSQL: row {seq} of journal {journal} is not as this program writes it"
            )


class JoinedSegment:
    """One journal, wherever its rows are."""

    def __init__(self, identity: str, store: TableSource) -> None:
        self.identity = identity
        self.local: JournalSegment | None = None
        """What of it is on this machine."""
        self.after = 0
        self._store = store
        self._reader: ReadRecord = partial(store.read, identity)
        self._owed: list[tuple[int, int]] = []

    def __repr__(self) -> str:
        return f"<JoinedStrand {self.identity}, read up to {self.after}>"

    @property
    def last(self) -> int:
        """The place of the last row that is there now; 0 for none."""
        local = self.local.last if self.local else 0
        return local or self._store.ask(lambda records: records.last(self.identity)) or 0

    def records(self, time_range: TimeRange) -> Iterator[StoredRecord]:
        """What comes after `after`, in order; moves it."""
        stored = partial(self._stored_page, time_range, _sizes())
        owed, self._owed = self._owed, []
        late = (self._late(after, upto, stored) for after, upto in owed)
        walk = walked(self, partial(self._local_page, time_range), stored, _place)
        for seq, text, reader in chain(*late, walk):
            yield from reader(seq, text)

    def backwards(self, time_range: TimeRange) -> Iterator[StoredRecord]:
        """All rows, the last first."""
        sizes, before = _sizes(), JournalCursor(MAX_INT64)
        while page := self._page_before(before.after, time_range, sizes):
            for seq, text, reader in _passed(before, page, _place):
                yield from reader(seq, text)

    def _late(
        self, after: int, upto: int, stored: Callable[[int, int], list[PageRecord]]
    ) -> Iterator[PageRecord]:
        """What was not to be had when it was its turn."""
        cursor = JournalCursor(after)
        while page := stored(cursor.after, upto):
            yield from _passed(cursor, page, _place)

    def _local_page(self, time_range: TimeRange, after: int) -> tuple[int, list[PageRecord]]:
        if self.local is None:
            return 0, []
        checkpoint, page = self.local.page(after, time_range)
        return checkpoint, _page_records(page, self.local.read)

    def _stored_page(
        self, time_range: TimeRange, sizes: Iterator[int], after: int, upto: int
    ) -> list[PageRecord]:
        size = next(sizes)
        page = self._store.ask(
            lambda records: records.page(self.identity, after, upto, time_range, size)
        )
        if page is None and upto < MAX_INT64:
            self._owed.append((after, upto))
        return _page_records(page or [], self._reader)

    def _page_before(
        self, before: int, time_range: TimeRange, sizes: Iterator[int]
    ) -> list[PageRecord]:
        if self.local and (page := self.local.page_before(before, time_range)):
            return _page_records(page, self.local.read)
        size = next(sizes)
        stored = self._store.ask(
            lambda records: records.page_before(self.identity, before, time_range, size)
        )
        return _page_records(stored or [], self._reader)


class AuditLog:
    """The journals of a data directory, and PostgreSQL.

    Args:
        journals: of the directory.
        store: PostgreSQL.

    """

    def __init__(self, journals: Journals, store: TableSource) -> None:
        self._journals = journals
        self._store = store
        self._segments: dict[str, JoinedSegment] = {}

    def segments(self) -> Sequence[JoinedSegment]:
        """All there are now, of this machine and of others."""
        self._store.retry()
        for local in self._journals.segments():
            if identity := local.identity():
                self._segment(identity).local = local
        for identity in self._store.ask(AuditTableReader.journals) or ():
            self._segment(identity)
        return list(self._segments.values())

    def running(self) -> Iterator[StoredRecord]:
        """What was admitted on this machine and has not ended."""
        return self._journals.running()

    def find(self, request_id: str) -> StoredRecord | None:
        """The row of a request, ended or not."""
        if found := self._journals.find(request_id):
            return found
        stored = self._store.ask(lambda records: records.find(request_id))
        return next(self._store.read(*stored), None) if stored else None

    def _segment(self, identity: str) -> JoinedSegment:
        return self._segments.setdefault(identity, JoinedSegment(identity, self._store))


def _sizes() -> Iterator[int]:
    size = FIRST
    while True:
        yield min(size, PAGE)
        size *= 4


def _page_records(page: list[RawRecord], reader: ReadRecord) -> list[PageRecord]:
    return [(seq, text, reader) for seq, text in page]


def _place(record: PageRecord) -> int:
    return record[0]
