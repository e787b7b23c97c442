"""Journals of several processes, and the commands that read them, for tests of reading."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs

from ollama_gateway.ledger.document import document_of, intent_of
from ollama_gateway.ledger.journal import Journal, JournalEntry, first_records
from ollama_gateway.ledger.postgres import AuditTable
from ollama_gateway.ledger.read.journals import Journals, TimeRange, merged
from ollama_gateway.ledger.read.records import StoredRecord
from tests.ledger.records import BEGAN, journal, record
from tests.support.commands import run

ALL = TimeRange()
ESCAPE = "\x1b[31mred\x1b[0m\n[bold]\u202e\x9b2J"
"""Must not reach a terminal: colours, line ends, markup, text that runs backwards, C1."""


def ended(request_id: str, second: float = 0, *, took: float = 1, **fields: Any) -> JournalEntry:
    """Return the end of a request that began `second` seconds after `BEGAN`."""
    began = BEGAN + timedelta(seconds=second)
    whole = attrs.evolve(record(request_id), started_at=began, duration=took, **fields)
    return JournalEntry(request_id, document_of(whole), is_final=True)


def began(request_id: str, second: float = 0, **fields: Any) -> JournalEntry:
    """Return the admission of such a request."""
    moment = BEGAN + timedelta(seconds=second)
    whole = attrs.evolve(record(request_id), started_at=moment, **fields)
    return JournalEntry(request_id, intent_of(whole), is_final=False)


def written(directory: Path, *journals: Sequence[JournalEntry]) -> None:
    """Write one journal for the entries of each process."""
    for number, entries in enumerate(journals):
        with closing(journal(directory / f"journal-{number}.db")) as opened:
            opened.commit(entries)


def still_open(directory: Path, *entries: JournalEntry) -> Journal:
    """Return the journal of a process that still runs; the caller closes it."""
    opened = journal(directory / "journal-9.db")
    opened.commit(entries)
    return opened


def move(opened: Journal, table: AuditTable, count: int = 2**31) -> None:
    """Move the oldest records of a journal to PostgreSQL."""
    if records := first_records(opened.path, count):
        table.store(opened.identity, records)
        opened.drop(records[-1])


def moved(path: Path, url: str, count: int = 2**31) -> None:
    """Move the oldest records of an unowned journal to PostgreSQL."""
    with closing(journal(path)) as opened, closing(AuditTable(url)) as table:
        move(opened, table, count)


def changed(path: Path, statement: str, *values: object) -> None:
    """Tamper with a journal."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


def all_records(
    directory: Path, faults: list[str] | None = None, time_range: TimeRange = ALL
) -> list[StoredRecord]:
    """Return all records, in order."""
    told: list[str] = []
    records = list(merged(Journals(directory, told.append).segments(), time_range))
    assert faults is not None or told == []
    if faults is not None:
        faults += told
    return records


def all_ids(
    directory: Path, faults: list[str] | None = None, time_range: TimeRange = ALL
) -> list[str]:
    """Return the ids of all recorded requests, in order."""
    return [record.request_id for record in all_records(directory, faults, time_range)]


def ran(*arguments: str) -> str:
    """Return the output of a command that must succeed."""
    result = run(*arguments)
    assert (result.exit_code, result.exception, result.stderr) == (0, None, "")
    return result.stdout


def listed(*arguments: str) -> list[dict[str, Any]]:
    """Return the records that `audit list --json` prints."""
    return [json.loads(line) for line in ran("audit", "list", "--json", *arguments).splitlines()]


def ids_of(*arguments: str) -> list[str]:
    """Return the request ids that `audit list --json` prints."""
    return [document["request_id"] for document in listed(*arguments)]


class MemorySegment:
    """A segment whose records are in memory."""

    def __init__(self, name: str, stored: list[StoredRecord]) -> None:
        self.name, self.stored = name, stored
        self.after = 0

    @classmethod
    def of(cls, name: str, records: Sequence[tuple[int, bool]]) -> MemorySegment:
        """Make records from the seconds of their ends, and whether their status is 200."""
        return cls(name, [_made(name, seq, *made) for seq, made in enumerate(records, 1)])

    @property
    def last(self) -> int:
        """The seq of the last record."""
        return self.stored[-1].seq if self.stored else 0

    def records(self, time_range: TimeRange) -> Iterator[StoredRecord]:
        """Yield the records after `after`, and move it."""
        for one in self.stored:
            if one.seq > self.after and time_range.contains(one.began):
                self.after = one.seq
                yield one

    def backwards(self, time_range: TimeRange) -> Iterator[StoredRecord]:
        """Yield all records, newest first."""
        return (one for one in reversed(self.stored) if time_range.contains(one.began))


def _made(name: str, seq: int, second: int, is_good: bool) -> StoredRecord:  # noqa: FBT001 - of a tuple
    status = 200 if is_good else 400
    document = {"request_id": f"{name}-{seq}", "duration_ms": 0, "status": status}
    return StoredRecord(name, seq, document, BEGAN + timedelta(seconds=second))
