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

from ollama_gateway.ledger.read.journals import Journals, JournalStrand, Span, Stored
from ollama_gateway.ledger.read.records import LARGEST, Kept, read
from ollama_gateway.ledger.read.stored import StoredRows
from ollama_gateway.ledger.read.telling import Complain, Once
from ollama_gateway.storage.database import DatabaseError

FIRST: Final = 8
"""Rows of a strand's first page: there may be thousands of strands, and few overlap in time."""
PAGE: Final = 1000
"""Rows of the largest one."""

T = TypeVar("T")
Reader = Callable[[int, bytes], Iterator[Kept]]
Piece = tuple[int, bytes, Reader]


class Cursor(Protocol):
    """How far something was read."""

    after: int
    """The place; may be set."""


def walked(
    cursor: Cursor,
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
        anchor, page = local(cursor.after)
        if anchor <= cursor.after and page:
            yield from _passed(cursor, page, place)
            continue
        upto = anchor if anchor > cursor.after else LARGEST
        while cursor.after < upto and (page := stored(cursor.after, upto)):
            yield from _passed(cursor, page, place)
        if upto == LARGEST:
            return
        cursor.after = upto  # what was not there is nowhere


def _passed(cursor: Cursor, page: list[T], place: Callable[[T], int]) -> Iterator[T]:
    for record in page:
        cursor.after = place(record)
        yield record


class Place:
    """A cursor, and nothing more."""

    def __init__(self, after: int) -> None:
        self.after = after


class Store:
    """PostgreSQL, which may be away: then that is told, and it is left alone until `retry`."""

    def __init__(self, records: StoredRows, complain: Complain) -> None:
        self.label = records.label
        self._rows = records
        self._complain = Once(complain)
        self._is_away = False

    def __repr__(self) -> str:
        return f"<Store {self.label}>"

    def retry(self) -> None:
        """Ask it again, even if it failed."""
        self._is_away = False

    def ask(self, question: Callable[[StoredRows], T]) -> T | None:
        """What it answers; None where it cannot be asked."""
        if self._is_away:
            return None
        try:
            return question(self._rows)
        except DatabaseError as error:
            self._is_away = True
            self._complain(str(error))
            return None

    def read(self, journal: str, seq: int, text: bytes) -> Iterator[Kept]:
        """The row of a place; nothing, and a word about it, where it is spoilt."""
        try:
            yield read(f"PostgreSQL, journal {journal}", seq, text)
        except ValueError:
            self._complain(
                f"PostgreSQL: row {seq} of journal {journal} is not as this program writes it"
            )


class JoinedStrand:
    """One journal, wherever its rows are."""

    def __init__(self, identity: str, store: Store) -> None:
        self.identity = identity
        self.local: JournalStrand | None = None
        """What of it is on this machine."""
        self.after = 0
        self._store = store
        self._reader: Reader = partial(store.read, identity)
        self._owed: list[tuple[int, int]] = []

    def __repr__(self) -> str:
        return f"<JoinedStrand {self.identity}, read up to {self.after}>"

    @property
    def last(self) -> int:
        """The place of the last row that is there now; 0 for none."""
        local = self.local.last if self.local else 0
        return local or self._store.ask(lambda records: records.last(self.identity)) or 0

    def records(self, span: Span) -> Iterator[Kept]:
        """What comes after `after`, in order; moves it."""
        stored = partial(self._stored_page, span, _sizes())
        owed, self._owed = self._owed, []
        late = (self._late(after, upto, stored) for after, upto in owed)
        walk = walked(self, partial(self._local_page, span), stored, _place)
        for seq, text, reader in chain(*late, walk):
            yield from reader(seq, text)

    def backwards(self, span: Span) -> Iterator[Kept]:
        """All rows, the last first."""
        sizes, before = _sizes(), Place(LARGEST)
        while page := self._page_before(before.after, span, sizes):
            for seq, text, reader in _passed(before, page, _place):
                yield from reader(seq, text)

    def _late(
        self, after: int, upto: int, stored: Callable[[int, int], list[Piece]]
    ) -> Iterator[Piece]:
        """What was not to be had when it was its turn."""
        cursor = Place(after)
        while page := stored(cursor.after, upto):
            yield from _passed(cursor, page, _place)

    def _local_page(self, span: Span, after: int) -> tuple[int, list[Piece]]:
        if self.local is None:
            return 0, []
        anchor, page = self.local.page(after, span)
        return anchor, _pieces(page, self.local.read)

    def _stored_page(self, span: Span, sizes: Iterator[int], after: int, upto: int) -> list[Piece]:
        size = next(sizes)
        page = self._store.ask(lambda records: records.page(self.identity, after, upto, span, size))
        if page is None and upto < LARGEST:
            self._owed.append((after, upto))
        return _pieces(page or [], self._reader)

    def _page_before(self, before: int, span: Span, sizes: Iterator[int]) -> list[Piece]:
        if self.local and (page := self.local.page_before(before, span)):
            return _pieces(page, self.local.read)
        size = next(sizes)
        stored = self._store.ask(
            lambda records: records.page_before(self.identity, before, span, size)
        )
        return _pieces(stored or [], self._reader)


class JoinedTrail:
    """The journals of a data directory, and PostgreSQL.

    Args:
        journals: of the directory.
        store: PostgreSQL.

    """

    def __init__(self, journals: Journals, store: Store) -> None:
        self._journals = journals
        self._store = store
        self._strands: dict[str, JoinedStrand] = {}

    def strands(self) -> Sequence[JoinedStrand]:
        """All there are now, of this machine and of others."""
        self._store.retry()
        for local in self._journals.strands():
            if identity := local.identity():
                self._strand(identity).local = local
        for identity in self._store.ask(StoredRows.journals) or ():
            self._strand(identity)
        return list(self._strands.values())

    def running(self) -> Iterator[Kept]:
        """What was admitted on this machine and has not ended."""
        return self._journals.running()

    def find(self, request_id: str) -> Kept | None:
        """The row of a request, ended or not."""
        if found := self._journals.find(request_id):
            return found
        stored = self._store.ask(lambda records: records.find(request_id))
        return next(self._store.read(*stored), None) if stored else None

    def _strand(self, identity: str) -> JoinedStrand:
        return self._strands.setdefault(identity, JoinedStrand(identity, self._store))


def _sizes() -> Iterator[int]:
    size = FIRST
    while True:
        yield min(size, PAGE)
        size *= 4


def _pieces(page: list[Stored], reader: Reader) -> list[Piece]:
    return [(seq, text, reader) for seq, text in page]


def _place(piece: Piece) -> int:
    return piece[0]
