"""A segment: one journal's records, in its file on this machine, in PostgreSQL, or in both.

Records move to PostgreSQL oldest first, and leave the file only when they are there. So a seq says
how far a segment was read: up to the journal's checkpoint records come from PostgreSQL, and after
it from the file. The file is always asked first, since a record that has left it is in PostgreSQL
already. No record is missed or doubled, however far they move meanwhile.

What cannot be read is reported once, in one line, and everything else is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Final, TypeVar

import attrs

from ollama_gateway.ledger.journal import JournalError
from ollama_gateway.ledger.read.filtering import ALL, EVERYTHING, Filter
from ollama_gateway.ledger.read.grouping import GroupSum, group_of
from ollama_gateway.ledger.read.journal_reader import JournalReader
from ollama_gateway.ledger.read.page import MAX_INT64, Page, RawRecord
from ollama_gateway.ledger.read.records import StoredRecord, read
from ollama_gateway.ledger.read.reporting import ReportFault
from ollama_gateway.ledger.read.stored import AuditTableReader, JournalNews
from ollama_gateway.storage.database import DatabaseError

FIRST: Final = 8
"""Records of a segment's first page: there may be thousands of segments, few of which overlap."""
PAGE: Final = 1000
"""Records of its largest page."""
LOOKED_AT: Final = 2_000_000
"""Records since a moment that are looked at, a second or two, to begin with the first of them."""
LOOKED_AT_BACKWARDS: Final = 100_000
"""The same for the newest records, of which few are wanted."""

T = TypeVar("T")
Ask = Callable[[AuditTableReader], T]


def walked(
    after: int, end: int, local: Callable[[int], Page[T]], stored: Callable[[int, int], Page[T]]
) -> Iterator[Page[T]]:
    """Yield the pages of a journal's records after a seq, each record once and in order.

    Args:
        after: the seq.
        end: the seq of the last record in PostgreSQL.
        local: returns the next page of the file after a seq.
        stored: returns the next page in PostgreSQL after one seq and up to another.

    """
    while True:
        page = local(after)
        if page.checkpoint <= after < page.upto:
            after = page.upto
            yield page
            continue
        upto = page.checkpoint if page.checkpoint > after else end
        if upto <= after:
            return
        while after < upto:
            page = stored(after, upto)
            after = page.upto
            yield page


class TableSource:
    """PostgreSQL, which may be away: that is reported, and it is not asked again until `retry`."""

    def __init__(self, table: AuditTableReader | None, report: ReportFault) -> None:
        self._table = table
        self._report = report
        self._is_away = False
        self._starts: dict[tuple[datetime, int], dict[str, int]] = {}

    def __repr__(self) -> str:
        return f"<TableSource {self._table.label if self._table else None}>"

    @property
    def is_away(self) -> bool:
        """Whether it could not be asked."""
        return self._is_away

    def retry(self) -> None:
        """Ask it again, even if it failed."""
        self._is_away = False

    def ask(self, question: Ask[T]) -> T | None:
        """Return its answer; None if it cannot be asked."""
        if self._table is None or self._is_away:
            return None
        try:
            return question(self._table)
        except DatabaseError as error:
            self._is_away = True
            self._report(str(error))
            return None

    def start(self, journal: str, since: datetime | None, most: int) -> int:
        """Return a seq of a journal before which no request began since a moment; 0 if unknown.

        Args:
            journal: its identity.
            since: the moment; None for all requests.
            most: records that may be looked at for it.

        """
        if since is None or self._table is None or self._is_away:
            return 0
        if (since, most) not in self._starts:
            try:
                self._starts[since, most] = self._table.starts(since, most)
            except DatabaseError:  # perhaps only this took too long; if not, the next page tells
                self._starts[since, most] = {}
        return self._starts[since, most].get(journal, 0)


class Segment:
    """The records of one journal, in the order in which their requests ended.

    Args:
        identity: of the journal.
        table: PostgreSQL, if there is one.
        report: takes one line for each thing that cannot be read.

    """

    def __init__(self, identity: str, table: TableSource, report: ReportFault) -> None:
        self.identity = identity
        self.local: JournalReader | None = None
        """The part on this machine."""
        self.local_last = 0
        """The seq of its last record at the last look, also if that has moved."""
        self.news = JournalNews(0, 0, [])
        """The records that the last look found in PostgreSQL."""
        self.after = 0
        """The seq up to which `records` has come; may be set."""
        self._table = table
        self._report = report
        self._skipped: list[tuple[int, int]] = []
        """Ranges of seqs that were due while PostgreSQL was away."""

    def __repr__(self) -> str:
        return f"<Segment {self.identity}, read up to {self.after}>"

    @property
    def last(self) -> int:
        """The seq of the last record that was there at the last look; 0 for none."""
        return max(self.local_last, self.news.last)

    def records(self, wanted: Filter) -> Iterator[StoredRecord]:
        """Yield the wanted records after `after`, in order, and move it."""
        sizes = _sizes()
        local = partial(self._local_page, wanted, sizes)
        stored = partial(self._stored_page, wanted, sizes)
        skipped, self._skipped = self._skipped, []
        for after, upto in skipped:
            for page in walked(after, upto, lambda _: Page(), stored):
                yield from self.read(page, wanted)
        if self.last <= self.after:
            return
        if self.after == 0:
            since = wanted.time_range.since
            self.after = max(0, self._table.start(self.identity, since, LOOKED_AT) - 1)
        for page in walked(self.after, self.news.last, local, stored):
            yield from self.read(page, wanted)
            self.after = page.upto

    def backwards(self, wanted: Filter) -> Iterator[StoredRecord]:
        """Yield all wanted records, newest first."""
        sizes, before = _sizes(), MAX_INT64
        while (page := self._page_before(wanted, before, next(sizes))).items:
            before = page.upto
            yield from self.read(page, wanted)

    def sums(self, wanted: Filter, dimensions: Sequence[str]) -> Iterator[GroupSum]:
        """Yield sums of the wanted records after `after`, for each part of them by itself."""
        # A column cannot tell all spellings of a model from other models.
        names = dimensions if wanted.model is None else (*dimensions, "model")
        local = partial(self._local_sums, wanted, names)
        stored = partial(self._stored_sums, wanted, names)
        for page in walked(self.after, self.news.last, local, stored):
            groups = [item for item in page.items if isinstance(item, GroupSum)]
            texts = [item for item in page.items if not isinstance(item, GroupSum)]
            records = self.read(Page(texts, is_local=page.is_local), wanted)
            for group in chain(groups, (group_of(record.document, names) for record in records)):
                if wanted.is_of_model(group.values[-1]):
                    yield attrs.evolve(group, values=group.values[: len(dimensions)])

    def running(self) -> Iterator[StoredRecord]:
        """Yield the records of open requests, which are on this machine."""
        yield from self.read(Page(self._ask_local(JournalReader.intents) or [], is_local=True))

    def find(self, request_id: str) -> StoredRecord | None:
        """Return the record of a request or a change that is on this machine, ended or not."""
        found = self._ask_local(lambda local: local.find(request_id)) or []
        return next(self.read(Page(found, is_local=True), EVERYTHING), None)

    def read(self, page: Page[RawRecord], wanted: Filter = ALL) -> Iterator[StoredRecord]:
        """Yield the wanted records of a page; report the damaged ones."""
        name = where = f"PostgreSQL, journal {self.identity}"
        if page.is_local and self.local:
            name, where = self.local.path.name, str(self.local.path)
        for seq, text in page.items:
            try:
                record = read(name, seq, text)
            except ValueError:
                what = f"record {seq}" if seq else "a request that runs"
                self._report(f"{where}: {what} is not as this program writes it")
                continue
            if wanted.matches(record):
                yield record

    def _local_page(self, wanted: Filter, sizes: Iterator[int], after: int) -> Page[RawRecord]:
        size = next(sizes)
        return self._ask_local(lambda local: local.page(after, wanted, size)) or Page()

    def _stored_page(
        self, wanted: Filter, sizes: Iterator[int], after: int, upto: int
    ) -> Page[RawRecord]:
        if self.news.after == after and self.news.records:
            found = [record for record in self.news.records if record[0] <= upto]
            return Page(found, found[-1][0] if found else upto)
        size = next(sizes)
        return self._ask_table(
            after, upto, lambda table: table.page(self.identity, after, upto, wanted, size)
        )

    def _page_before(self, wanted: Filter, before: int, size: int) -> Page[RawRecord]:
        found = self._ask_local(lambda local: local.page_before(before, wanted, size))
        if not (is_local := bool(found)) and self.news.last:
            since = wanted.time_range.since
            after = self._table.start(self.identity, since, LOOKED_AT_BACKWARDS) - 1
            found = self._table.ask(
                lambda table: table.page_before(self.identity, after, before, wanted, size)
            )
        return Page(found or [], found[-1][0] if found else 0, is_local=is_local)

    def _local_sums(
        self, wanted: Filter, names: Sequence[str], after: int
    ) -> Page[GroupSum | RawRecord]:
        return self._ask_local(lambda local: local.sums(after, wanted, names)) or Page()

    def _stored_sums(
        self, wanted: Filter, names: Sequence[str], after: int, upto: int
    ) -> Page[GroupSum | RawRecord]:
        return self._ask_table(
            after, upto, lambda table: table.sums(self.identity, after, upto, wanted, names)
        )

    def _ask_table(self, after: int, upto: int, question: Ask[Page[T]]) -> Page[T]:
        """Return the page; while PostgreSQL is away, note the range that was due."""
        page = self._table.ask(question)
        if page is None and self._table.is_away:
            self._skipped.append((after, upto))
        return page or Page(upto=upto)

    def _ask_local(self, question: Callable[[JournalReader], T]) -> T | None:
        try:
            return question(self.local) if self.local else None
        except JournalError as error:
            self._report(str(error))
            return None


def _sizes() -> Iterator[int]:
    size = FIRST
    while True:
        yield min(size, PAGE)
        size *= 4
