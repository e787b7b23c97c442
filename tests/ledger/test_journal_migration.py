"""Journals of version 1 are brought forward without a change of what they hold."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ollama_gateway.ledger import journal_migration
from ollama_gateway.ledger.document import document_of, to_text
from ollama_gateway.ledger.journal import JOURNAL_FORMAT, JournalError
from ollama_gateway.ledger.journal_migration import SCHEMA_VERSION, migrate, remove_copies
from ollama_gateway.ledger.ownership import own_journal, recover
from ollama_gateway.ledger.read.verifying import Chains
from ollama_gateway.ledger.recording_changes import JournalChanges
from ollama_gateway.storage.sqlite import SQLiteFile
from tests.ledger.audit_logs import changed, ran
from tests.ledger.records import CHANGE, KEY, final, ids, intent, journal, record
from tests.ledger.version_1 import contents, version, write_version_1

SCRIPT = """
import os, signal, sys
from pathlib import Path
from ollama_gateway.ledger import journal_migration
from ollama_gateway.ledger.journal import JOURNAL_FORMAT
from ollama_gateway.storage.sqlite import SQLiteFile

left = int(sys.argv[2])
def count(statement):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

journal_migration.BATCH = 2
file = SQLiteFile(Path(sys.argv[1]), JOURNAL_FORMAT)
file.connection.set_trace_callback(count)
journal_migration.migrate(file)
"""


class Usage(NamedTuple):
    """What `shutil.disk_usage` returns, of a full disk."""

    total: int = 10
    used: int = 10
    free: int = 0


def document(number: int, **fields: Any) -> str:
    """Return the text of a request's record."""
    whole = {**document_of(record(f"r{number}", minutes=number)), **fields}
    return to_text(whole)


ODD = (
    document(1, prompt_tokens=3),
    document(2, prompt_tokens=2**70),
    document(3, end_user="half of a sign: \ud83d"),
    document(4, model="with\x00in"),
    document(5, completion_tokens="7"),
    document(6, started_at="yesterday"),
    document(7, end_user="\U0001f600"),
    '{"key_id": "a", "key_id": "b"}',
    "[1]",
    "no JSON",
    "[" * 100_000,
)
"""What a tampered or older file may hold."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Write a journal of version 1 with an open request, and records that are no texts."""
    path = tmp_path / "data" / "journal-0.db"
    write_version_1(path, ODD)
    changed(path, "UPDATE rows SET document = x'ff00' WHERE seq = 9")
    changed(path, "INSERT INTO intents VALUES ('open', '{}')")
    return path


def open_file(path: Path) -> SQLiteFile:
    """Open a file as its owner does."""
    file = SQLiteFile(path, JOURNAL_FORMAT)
    file.connection.execute("PRAGMA journal_mode = WAL")
    return file


def faults(path: Path) -> list[str | None]:
    """Return the first fault of a journal."""
    [report] = Chains([path], KEY).local()
    return [report.error or (report.fault.reason if report.fault else None)]


def test_rows_are_the_same_byte_for_byte(path: Path) -> None:
    """Neither the rows nor the intents nor the chain change, in the file or in its copy."""
    before = contents(path)
    with closing(open_file(path)) as file:
        migrate(file)

    copy = path.with_name("journal-0.db.bak-1")
    assert (version(path), version(copy)) == (SCHEMA_VERSION, 1)
    assert contents(path) == contents(copy) == before
    assert copy.stat().st_mode & 0o777 == 0o600
    assert sorted(found.name for found in path.parent.glob("*.new-*")) == []


def test_what_a_column_cannot_hold_is_marked(path: Path) -> None:
    """Only records whose values fit their columns have facts."""
    with closing(open_file(path)) as file:
        migrate(file)
        found = file.connection.execute("SELECT seq FROM facts WHERE is_exact").fetchall()

    assert [seq for (seq,) in found] == [1, 4, 7]


def test_the_file_goes_on_as_a_journal(tmp_path: Path) -> None:
    """The chain holds with the records that follow; open requests are ended as ever."""
    path = tmp_path / "journal-0.db"
    write_version_1(path, [document(n) for n in range(1, 4)])
    changed(path, "INSERT INTO intents VALUES (?, ?)", "r9", to_text(intent("r9").document))
    with own_journal(tmp_path, is_strict=False, key=KEY) as owned:
        assert [killed["request_id"] for killed in owned.killed] == ["r9"]

    assert ids(path) == ["r1", "r2", "r3", "r9"]
    assert faults(path) == [None]


@pytest.mark.parametrize("statements", range(1, 40, 3))
def test_a_migration_that_is_killed_goes_on(tmp_path: Path, statements: int) -> None:
    """Whichever statement is the last, nothing is lost, and the next start finishes."""
    path = tmp_path / "journal-0.db"
    write_version_1(path, [document(n) for n in range(1, 8)])
    before = contents(path)
    killed = subprocess.run([sys.executable, "-c", SCRIPT, str(path), str(statements)], check=False)
    assert killed.returncode in {0, -signal.SIGKILL}
    assert contents(path) == before
    journal(path).close()

    assert (contents(path), version(path), faults(path)) == (before, SCHEMA_VERSION, [None])
    assert version(path.with_name("journal-0.db.bak-1")) == 1


def test_an_older_gateway_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that it wrote and dropped after a failed start are in the facts, or not."""
    path = tmp_path / "journal-0.db"
    write_version_1(path, [document(n) for n in range(1, 8)])
    monkeypatch.setattr(journal_migration, "BATCH", 2)
    with closing(open_file(path)) as file:
        file.connection.set_progress_handler(interrupt_at(file, 4), 1)
        with pytest.raises(sqlite3.OperationalError, match="interrupted"):
            migrate(file)
    assert version(path) == 1
    write_version_1(path, [document(8)], first=8)
    changed(path, "UPDATE chain SET seq = 3, hash = (SELECT hash FROM rows WHERE seq = 3)")
    changed(path, "DELETE FROM rows WHERE seq <= 3")
    journal(path).close()

    assert (version(path), faults(path)) == (SCHEMA_VERSION, [None])


def interrupt_at(file: SQLiteFile, count: int) -> Any:
    """Return a handler that stops the next statement once there are so many facts."""
    with_facts = sqlite3.connect(file.path)

    def stop() -> bool:
        try:
            [(found,)] = with_facts.execute("SELECT count(*) FROM facts")
        except sqlite3.OperationalError:
            return False
        return bool(found >= count)

    return stop


def test_without_room_for_the_copy_nothing_is_done(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says so; the file stays as it is."""
    before = contents(path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage())

    with pytest.raises(JournalError, match="no room for a copy before its migration"):
        journal(path)

    assert (contents(path), version(path)) == (before, 1)
    assert sorted(found.name for found in path.parent.glob("*bak*")) == []


def test_journals_of_ended_processes_are_brought_forward(tmp_path: Path) -> None:
    """A running gateway does it, so that they are read as fast as its own."""
    write_version_1(tmp_path / "journal-3.db", [document(1)])

    assert recover(tmp_path, key=KEY) == []
    assert version(tmp_path / "journal-3.db") == SCHEMA_VERSION


def test_version_2_is_brought_forward(tmp_path: Path) -> None:
    """A copy is kept, nothing that was there changes, and changes can be recorded."""
    path = tmp_path / "journal-0.db"
    with closing(journal(path)) as owned:
        owned.commit([final("r1"), intent("r2")])
    changed(path, "DROP TABLE changes")
    changed(path, "PRAGMA user_version = 2")
    before = contents(path)
    with closing(open_file(path)) as file:
        migrate(file)

    assert (version(path), version(path.with_name("journal-0.db.bak-2"))) == (SCHEMA_VERSION, 2)
    assert contents(path) == contents(path.with_name("journal-0.db.bak-2")) == before
    with closing(journal(path)) as owned, JournalChanges(owned, lambda _: None).making(CHANGE):
        pass
    assert faults(path) == [None]


def test_copies_go_after_a_while(path: Path) -> None:
    """Only copies that are old enough are removed."""
    journal_copy = path.with_name("journal-0.db.bak-1")
    shutil.copy(path, journal_copy)
    made = journal_copy.stat().st_mtime

    remove_copies(path.parent, made)
    assert journal_copy.exists()
    remove_copies(path.parent, made + 1)
    assert not journal_copy.exists()
    assert path.exists()


def test_version_1_is_read_as_it_is(data_dir: Path) -> None:
    """The commands show the same before and after, and readers change no byte of it."""
    path = data_dir / "journal-0.db"
    write_version_1(path, [document(n, key_name=f"k{n % 2}", prompt_tokens=n) for n in range(1, 9)])
    before = path.read_bytes()
    commands = (
        ("usage", "--json"),
        ("usage", "--by", "day", "--model", "M1", "--json"),
        ("audit", "list", "--json", "--key", "k1", "--limit", "3"),
        ("audit", "list", "--json", "--since", "2026-01-02T03:10:00Z"),
        ("audit", "show", "r3"),
        ("audit", "verify", "--json"),
    )
    first = [ran(*command) for command in commands]
    assert (path.read_bytes(), version(path)) == (before, 1)
    journal(path).close()

    assert version(path) == SCHEMA_VERSION
    assert [ran(*command) for command in commands] == first
    assert json.loads(first[0])[0]["prompt_tokens"] > 0
