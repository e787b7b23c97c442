"""The audit log as one: the journals of this machine, and all that have come to PostgreSQL.

Segments are merged by the moment at which a request ended, so the whole has that order too, except
for records of killed requests: the next start writes those, and they bear the moment at which they
began. The merge holds one page of each segment, whatever the length of the log.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

from ollama_gateway.ledger.journal import JournalError
from ollama_gateway.ledger.read.filtering import EVERYTHING, Filter
from ollama_gateway.ledger.read.grouping import GroupSum
from ollama_gateway.ledger.read.journal_reader import JournalReader, paths_in
from ollama_gateway.ledger.read.page import Page
from ollama_gateway.ledger.read.records import StoredRecord
from ollama_gateway.ledger.read.reporting import OncePerFault, ReportFault
from ollama_gateway.ledger.read.segment import FIRST, Segment, TableSource
from ollama_gateway.ledger.read.stored import AuditTableReader

NEWS: Final = 100
"""Records of each journal in PostgreSQL that one look brings, once reading has begun."""


class AuditLog:
    """The audit log of a data directory and of PostgreSQL, if there is one.

    Args:
        directory: that holds the journals.
        report: takes one line for each thing that cannot be read, once.
        table: the records in PostgreSQL.

    """

    def __init__(
        self, directory: Path, report: ReportFault, table: AuditTableReader | None = None
    ) -> None:
        self._directory = directory
        self._report = OncePerFault(report)
        self._table = TableSource(table, self._report)
        self._segments: dict[str, Segment] = {}

    def __repr__(self) -> str:
        return f"<AuditLog {self._directory}, {self._table}>"

    @property
    def is_table_away(self) -> bool:
        """Whether PostgreSQL could not be asked since the last look for segments."""
        return self._table.is_away

    def segments(self) -> Sequence[Segment]:
        """Return all that there are now; one returned before comes again, as far as it was read.

        Asks PostgreSQL once, whatever the number of journals there.
        """
        self._table.retry()
        reached = {segment.identity: segment.after for segment in self._segments.values()}
        size = NEWS if any(reached.values()) else FIRST
        news = self._table.ask(lambda table: table.news(reached, size)) or {}
        for identity in news:
            self._segment(identity).news = news[identity]
        self._here()
        return list(self._segments.values())

    def records(self, wanted: Filter) -> Iterator[StoredRecord]:
        """Yield the unread records that are wanted, in the order of their ends."""
        return merged(self.segments(), wanted)

    def sums(self, wanted: Filter, dimensions: Sequence[str]) -> Iterator[GroupSum]:
        """Yield sums of the wanted records, in parts: groups with the same values come often.

        The daily sums of PostgreSQL answer for all records there, if they can.
        """
        segments = self.segments()
        here = [segment for segment in segments if segment.local]
        journals = [segment.identity for segment in here]
        if daily := self._table.ask(lambda table: table.daily_sums(wanted, dimensions, journals)):
            yield from daily.groups
            for segment in here:
                segment.after = daily.upto[segment.identity]
            segments = here
        for segment in segments:
            yield from segment.sums(wanted, dimensions)

    def running(self) -> Iterator[StoredRecord]:
        """Yield the requests that were admitted on this machine and have not ended."""
        return chain.from_iterable(segment.running() for segment in self._here())

    def find(self, request_id: str) -> StoredRecord | None:
        """Return the record of a request or a change, ended or not."""
        for segment in self._here():
            if found := segment.find(request_id):
                return found
        if stored := self._table.ask(lambda table: table.find(request_id)):
            journal, seq, text = stored
            return next(self._segment(journal).read(Page([(seq, text)]), EVERYTHING), None)
        return None

    def _here(self) -> Sequence[Segment]:
        """Return the segments of this machine; the longest file, if several have one identity."""
        found = []
        for path in self._paths():
            local = JournalReader(path)
            try:
                found.append((local.head(), local))
            except JournalError as error:
                self._report(str(error))
        for head, local in sorted(found, key=lambda one: one[0].seq):
            if head.identity:
                segment = self._segment(head.identity)
                segment.local, segment.local_last = local, head.seq
        return [segment for segment in self._segments.values() if segment.local]

    def _paths(self) -> list[Path]:
        try:
            return paths_in(self._directory)
        except JournalError as error:
            self._report(str(error))
            return []

    def _segment(self, identity: str) -> Segment:
        new = Segment(identity, self._table, self._report)
        return self._segments.setdefault(identity, new)


def merged(segments: Iterable[Segment], wanted: Filter) -> Iterator[StoredRecord]:
    """Yield the unread records of segments that are wanted, in the order of their ends."""
    return heapq.merge(
        *(segment.records(wanted) for segment in segments), key=lambda record: record.ended
    )


def start_at_newest(segments: Sequence[Segment], wanted: Filter, count: int) -> None:
    """Move segments so that only the newest `count` wanted records follow."""
    starts = {id(segment): segment.last for segment in segments}
    for key, record in heapq.merge(
        *(_backwards(segment, wanted) for segment in segments), key=lambda one: -one[1].ended
    ):
        if count == 0:
            break
        starts[key] = record.seq - 1
        count -= 1
    else:
        starts = dict.fromkeys(starts, 0) if count else starts
    for segment in segments:
        segment.after = starts[id(segment)]


def _backwards(segment: Segment, wanted: Filter) -> Iterator[tuple[int, StoredRecord]]:
    return ((id(segment), record) for record in segment.backwards(wanted))
