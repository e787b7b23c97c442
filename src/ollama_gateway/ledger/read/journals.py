"""The audit log read from journals: all those of a data directory as one, a page at a time.

A journal's records are a *segment* of the log, in the order in which their requests ended. Segments
are merged by the moment of the end, so the whole has that order too, except for records of killed
requests: the next start writes those, and they bear the moment at which they began. The merge holds
one record of each segment, so a log of any length takes the memory of one page per journal.

The rules: each page is a transaction of its own, so a reader that waits for its pipe never keeps a
gateway from reusing its write-ahead log. Nothing is ever written. What cannot be read is reported
once, in one line, and everything else is read.

If records move on to PostgreSQL, `joined.py` reads both as one.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Final, Protocol

import attrs

from ollama_gateway.ledger.journal import JournalError, reading
from ollama_gateway.ledger.ownership import JOURNAL_PATTERN
from ollama_gateway.ledger.read.records import MAX_INT64, StoredRecord, as_text, read
from ollama_gateway.ledger.read.reporting import OncePerFault, ReportFault

PAGE: Final = 1000
"""Records read in one transaction."""
WINDOW: Final = 20_000
"""Records among which one is recognized again that moved while it was read."""

# The text is searched, as a record that is not JSON must not end the search. No client can forge
# this: the quotes in its values are escaped.
_BEGAN: Final = """substr(document, instr(document, '"started_at":"') + 14, 32)"""
_IN_RANGE: Final = f"(?2 = '' OR {_BEGAN} >= ?2) AND (?3 = '' OR {_BEGAN} < ?3)"
_FORWARDS: Final = f"""SELECT seq, CAST(document AS BLOB) FROM rows
    WHERE seq > ?1 AND {_IN_RANGE} ORDER BY seq LIMIT ?4"""  # noqa: S608 - constants
_BACKWARDS: Final = f"""SELECT seq, CAST(document AS BLOB) FROM rows
    WHERE seq < ?1 AND {_IN_RANGE} ORDER BY seq DESC LIMIT ?4"""  # noqa: S608 - constants
_INTENTS: Final = "SELECT 0, CAST(document AS BLOB) FROM intents ORDER BY request_id"
_BY_ID: Final = """SELECT seq, CAST(document AS BLOB) FROM rows WHERE request_id = ?1
    UNION ALL SELECT 0, CAST(document AS BLOB) FROM intents WHERE request_id = ?1"""
# Cast to a number and a blob, since an edited file may hold any type.
_CHECKPOINT: Final = """SELECT coalesce(max(CAST(seq AS INTEGER)), 0), max(CAST(identity AS BLOB))
    FROM chain"""
_LAST: Final = f"""SELECT seq, x'' FROM (SELECT seq FROM rows ORDER BY seq DESC LIMIT 1)
    UNION ALL {_CHECKPOINT}"""  # noqa: S608 - a constant

RawRecord = tuple[int, bytes]
"""A record's seq and its text."""


@attrs.frozen
class TimeRange:
    """Requests that began at one moment or later, and before another."""

    since: datetime | None = None
    until: datetime | None = None

    def contains(self, moment: datetime) -> bool:
        """Return whether a moment is in this range."""
        return (self.since is None or moment >= self.since) and (
            self.until is None or moment < self.until
        )

    @property
    def texts(self) -> tuple[str, str]:
        """The two moments as records spell them; "" for none."""
        return _text(self.since), _text(self.until)


class Segment(Protocol):
    """Records in the order of their ends, and how far they were read."""

    after: int
    """The seq up to which they were read; may be set."""

    @property
    def last(self) -> int:
        """The seq of the last record that is there now."""
        ...

    def records(self, time_range: TimeRange) -> Iterator[StoredRecord]:
        """Yield the records after `after`, and move it."""
        ...

    def backwards(self, time_range: TimeRange) -> Iterator[StoredRecord]:
        """Yield all records, newest first, without moving `after`."""
        ...


class Source(Protocol):
    """A place from which the audit log is read."""

    def segments(self) -> Sequence[Segment]:
        """Return all current segments; one returned before comes again, as far as it was read."""
        ...

    def running(self) -> Iterator[StoredRecord]:
        """Yield the records of requests that were admitted and have not ended."""
        ...

    def find(self, request_id: str) -> StoredRecord | None:
        """Return the record of a request, ended or not."""
        ...


class JournalSegment:
    """One journal. If it cannot be read, that is reported, and it has no more records."""

    def __init__(self, path: Path, report: ReportFault) -> None:
        self.path = path
        self.after = 0
        self._report = report

    def __repr__(self) -> str:
        return f"<JournalSegment {self.path}, read up to {self.after}>"

    @property
    def last(self) -> int:
        """The seq of the last record that is there now; 0 for none."""
        return next((seq for seq, _ in self._ask(_LAST)), 0)

    def records(self, time_range: TimeRange) -> Iterator[StoredRecord]:
        """Yield the records after `after`, in order, and move it."""
        while page := self._ask(_FORWARDS, self.after, *time_range.texts, PAGE):
            for seq, text in page:
                self.after = seq
                yield from self.read(seq, text)

    def backwards(self, time_range: TimeRange) -> Iterator[StoredRecord]:
        """Yield all records, newest first."""
        before = MAX_INT64
        while page := self._ask(_BACKWARDS, before, *time_range.texts, PAGE):
            for seq, text in page:
                before = seq
                yield from self.read(seq, text)

    def page(self, after: int, time_range: TimeRange) -> tuple[int, list[RawRecord]]:
        """Return the seq of the checkpoint, and the next records after `after`, read together."""
        try:
            with reading(self.path) as connection:
                if is_unmade(connection):
                    return 0, []
                [(checkpoint, _)] = connection.execute(_CHECKPOINT)
                values = (after, *time_range.texts, PAGE)
                return checkpoint, connection.execute(_FORWARDS, values).fetchall()
        except JournalError as error:
            self._report(str(error))
            return 0, []

    def page_before(self, before: int, time_range: TimeRange) -> list[RawRecord]:
        """Return the records before a seq, newest first."""
        return self._ask(_BACKWARDS, before, *time_range.texts, PAGE)

    def identity(self) -> str:
        """Return the journal's identity, wherever its records go; "" if it is just being made."""
        for _, name in self._ask(_CHECKPOINT):
            if name:
                return str(name, errors="replace")
            self._report(f"{self.path}: its identity is not as this program writes it")
        return ""

    def running(self) -> Iterator[StoredRecord]:
        """Yield the open intents: never more than a gateway serves at once."""
        for seq, text in self._ask(_INTENTS):
            yield from self.read(seq, text)

    def find(self, request_id: str) -> StoredRecord | None:
        """Return the record of a request, ended or not."""
        found = self._ask(_BY_ID, as_text(request_id))
        return next(chain.from_iterable(self.read(*record) for record in found), None)

    def _ask(self, question: str, *values: str | int) -> list[RawRecord]:
        try:
            with reading(self.path) as connection:
                if is_unmade(connection):
                    return []
                return connection.execute(question, values).fetchall()
        except JournalError as error:
            self._report(str(error))
            return []

    def read(self, seq: int, text: bytes) -> Iterator[StoredRecord]:
        """Yield the record with this text; nothing, and a report, if it is damaged."""
        try:
            yield read(self.path.name, seq, text)
        except ValueError:
            where = f"record {seq}" if seq else "a request that runs"
            self._report(f"{self.path}: {where} is not as this program writes it")


class Journals:
    """The journals of a data directory.

    Args:
        directory: that holds them.
        report: takes one line for each thing that cannot be read.

    """

    def __init__(self, directory: Path, report: ReportFault) -> None:
        self._directory = directory
        self._report = OncePerFault(report)
        self._segments: dict[Path, JournalSegment] = {}

    def segments(self) -> Sequence[JournalSegment]:
        """Return all that are there now, and those seen before."""
        try:
            paths = paths_in(self._directory)
        except JournalError as error:
            self._report(str(error))
            paths = []
        for path in paths:
            if path not in self._segments:
                self._segments[path] = JournalSegment(path, self._report)
        return list(self._segments.values())

    def running(self) -> Iterator[StoredRecord]:
        """Yield the records of requests that were admitted and have not ended."""
        return chain.from_iterable(segment.running() for segment in self.segments())

    def find(self, request_id: str) -> StoredRecord | None:
        """Return the record of a request, ended or not."""
        found = (segment.find(request_id) for segment in self.segments())
        return next((record for record in found if record), None)


def paths_in(directory: Path) -> list[Path]:
    """Return the journals of a directory, by their numbers; raises JournalError."""
    try:
        found = [path for path in directory.iterdir() if path.match(JOURNAL_PATTERN)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise JournalError(f"{directory}: {error.strerror}") from error
    return sorted(found, key=lambda path: (len(path.name), path.name))


def is_unmade(connection: Any) -> bool:
    """Return whether a journal is just being made: its owner has written nothing into it yet."""
    [(version,)] = connection.execute("PRAGMA user_version")
    return version == 0 and not connection.execute("SELECT 1 FROM sqlite_master").fetchall()


def merged(segments: Iterable[Segment], time_range: TimeRange) -> Iterator[StoredRecord]:
    """Yield the unread records of all segments, in the order of their ends."""
    return once(
        heapq.merge(
            *(segment.records(time_range) for segment in segments), key=lambda record: record.ended
        )
    )


def once(records: Iterable[StoredRecord]) -> Iterator[StoredRecord]:
    """Yield one record for each request."""
    seen: set[str] = set()
    order: deque[str] = deque()
    for record in records:
        if record.request_id in seen:
            continue
        if len(order) == WINDOW:
            seen.discard(order.popleft())
        seen.add(record.request_id)
        order.append(record.request_id)
        yield record


def start_at_newest(
    segments: Sequence[Segment],
    time_range: TimeRange,
    count: int,
    is_wanted: Callable[[StoredRecord], bool],
) -> None:
    """Move segments so that only the newest `count` wanted records follow."""
    starts = {id(segment): segment.last for segment in segments}
    for key, record in heapq.merge(
        *map(_backwards(time_range), segments), key=lambda one: -one[1].ended
    ):
        if count == 0:
            break
        starts[key] = record.seq - 1
        count -= is_wanted(record)
    else:
        starts = dict.fromkeys(starts, 0) if count else starts
    for segment in segments:
        segment.after = starts[id(segment)]


def _backwards(time_range: TimeRange) -> Callable[[Segment], Iterator[tuple[int, StoredRecord]]]:
    return lambda segment: ((id(segment), record) for record in segment.backwards(time_range))


def _text(moment: datetime | None) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds") if moment else ""
