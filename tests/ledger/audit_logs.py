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
import pytest

from ollama_gateway.ledger.document import document_of, intent_of, to_text
from ollama_gateway.ledger.journal import Journal, JournalEntry, first_records
from ollama_gateway.ledger.postgres import AuditTable
from ollama_gateway.ledger.read.audit_log import AuditLog
from ollama_gateway.ledger.read.filtering import Filter, TimeRange
from ollama_gateway.ledger.read.records import StoredRecord, read
from ollama_gateway.ledger.read.segment import Segment, TableSource
from ollama_gateway.reasons import Outcome
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
    records = list(AuditLog(directory, told.append).records(Filter(time_range)))
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


class MemorySegment(Segment):
    """A segment whose records are in memory."""

    def __init__(self, name: str, stored: list[StoredRecord]) -> None:
        super().__init__(name, TableSource(None, pytest.fail), pytest.fail)
        self.stored = stored

    @classmethod
    def of(cls, name: str, records: Sequence[tuple[int, bool]]) -> MemorySegment:
        """Make records from the seconds of their ends, and whether they were completed."""
        return cls(name, [_made(name, seq, *made) for seq, made in enumerate(records, 1)])

    @property
    def last(self) -> int:
        """The seq of the last record."""
        return self.stored[-1].seq if self.stored else 0

    def records(self, wanted: Filter) -> Iterator[StoredRecord]:
        """Yield the wanted records after `after`, and move it."""
        for one in self.stored:
            if one.seq > self.after and wanted.matches(one):
                self.after = one.seq
                yield one

    def backwards(self, wanted: Filter) -> Iterator[StoredRecord]:
        """Yield all wanted records, newest first."""
        return (one for one in reversed(self.stored) if wanted.matches(one))


def _made(name: str, seq: int, second: int, is_good: bool) -> StoredRecord:  # noqa: FBT001 - of a tuple
    outcome: Outcome = "completed" if is_good else "refused"
    entry = ended(f"{name}-{seq}", second, took=0, outcome=outcome)
    return read(name, seq, to_text(entry.document).encode())
