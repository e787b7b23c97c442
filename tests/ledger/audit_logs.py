"""Journals of several processes, and the commands that read them, for the tests of the reader."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
from typer.testing import CliRunner, Result

from ollama_gateway.cli.main import app
from ollama_gateway.ledger.document import document_of, intent_of, to_text
from ollama_gateway.ledger.journal import Journal, JournalEntry, first_records
from ollama_gateway.ledger.postgres import AuditTable
from ollama_gateway.ledger.read.journals import Journals, TimeRange, merged
from ollama_gateway.ledger.read.records import StoredRecord
from tests.ledger.records import BEGAN, journal, record

ALL = TimeRange()
ESCAPE = "\x1b[31mred\x1b[0m\n[bold]\u202e\x9b2J"
"""What must not reach a terminal: colours, lines, markup, text that runs backwards, C1."""


def ended(request_id: str, second: float = 0, *, took: float = 1, **fields: Any) -> JournalEntry:
    """The end of a request that began so many seconds after `BEGAN`."""
    began = BEGAN + timedelta(seconds=second)
    whole = attrs.evolve(record(request_id), started_at=began, duration=took, **fields)
    return JournalEntry(request_id, to_text(document_of(whole)), is_final=True)


def began(request_id: str, second: float = 0, **fields: Any) -> JournalEntry:
    """Its admission."""
    moment = BEGAN + timedelta(seconds=second)
    whole = attrs.evolve(record(request_id), started_at=moment, **fields)
    return JournalEntry(request_id, to_text(intent_of(whole)), is_final=False)


def written(directory: Path, *journals: Sequence[JournalEntry]) -> None:
    """A journal of each process's entries."""
    for number, entries in enumerate(journals):
        with closing(journal(directory / f"journal-{number}.db")) as opened:
            opened.commit(entries)


def still_open(directory: Path, *entries: JournalEntry) -> Journal:
    """The journal of a process that still runs; to be closed."""
    opened = journal(directory / "journal-9.db")
    opened.commit(entries)
    return opened


def moved(path: Path, url: str, count: int = 2**31) -> None:
    """Move the oldest rows of a journal that nobody owns to PostgreSQL."""
    with closing(journal(path)) as opened, closing(AuditTable(url)) as table:
        if records := first_records(path, count):
            table.store(opened.identity, records)
            opened.drop(records[-1])


def changed(path: Path, statement: str, *values: object) -> None:
    """Do with SQL what nobody should."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


def all_rows(
    directory: Path, faults: list[str] | None = None, time_range: TimeRange = ALL
) -> list[StoredRecord]:
    """The whole trail, in order."""
    told: list[str] = []
    records = list(merged(Journals(directory, told.append).segments(), time_range))
    assert faults is not None or told == []
    if faults is not None:
        faults += told
    return records


def all_ids(
    directory: Path, faults: list[str] | None = None, time_range: TimeRange = ALL
) -> list[str]:
    """Of which requests it has rows, in order."""
    return [kept.request_id for kept in all_rows(directory, faults, time_range)]


def run(*arguments: str) -> Result:
    """Run `gatewayctl ...` in this process."""
    return CliRunner().invoke(app, arguments)


def ran(*arguments: str) -> str:
    """What a command that succeeds prints."""
    result = run(*arguments)
    assert (result.exit_code, result.exception, result.stderr) == (0, None, "")
    return result.stdout


def listed(*arguments: str) -> list[dict[str, Any]]:
    """The rows that `audit list --json` prints."""
    return [json.loads(line) for line in ran("audit", "list", "--json", *arguments).splitlines()]


def ids_of(*arguments: str) -> list[str]:
    """Their requests."""
    return [document["request_id"] for document in listed(*arguments)]


class Memory:
    """A strand of rows that are nowhere else."""

    def __init__(self, name: str, kept: list[StoredRecord]) -> None:
        self.name, self.kept = name, kept
        self.after = 0

    @classmethod
    def of(cls, name: str, records: Sequence[tuple[int, bool]]) -> Memory:
        """Rows by when they ended, and whether their status is 200."""
        return cls(name, [_kept(name, seq, *made) for seq, made in enumerate(records, 1)])

    @property
    def last(self) -> int:
        """The place of the last row."""
        return self.kept[-1].seq if self.kept else 0

    def records(self, time_range: TimeRange) -> Iterator[StoredRecord]:
        """What comes after `after`; moves it."""
        for kept in self.kept:
            if kept.seq > self.after and time_range.contains(kept.began):
                self.after = kept.seq
                yield kept

    def backwards(self, time_range: TimeRange) -> Iterator[StoredRecord]:
        """All rows, the last first."""
        return (kept for kept in reversed(self.kept) if time_range.contains(kept.began))


def _kept(name: str, seq: int, second: int, is_good: bool) -> StoredRecord:  # noqa: FBT001 - of a tuple
    status = 200 if is_good else 400
    document = {"request_id": f"{name}-{seq}", "duration_ms": 0, "status": status}
    return StoredRecord(name, seq, document, BEGAN + timedelta(seconds=second))
