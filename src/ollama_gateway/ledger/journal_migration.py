"""The tables of a journal, and how one of an older schema is brought forward.

Schema 1 has records and open requests; 2 also has the facts of each record (`facts.py`), and 3 the
numbers of the records that are no requests but changes by operators (`document.py`).

No row that was there is changed. A copy of the file is made first. The facts of schema 2 are added
a batch at a time, each a transaction of its own; the version changes last. So it may be killed at
any moment: the next start goes on after the last record that has its facts. Until the version has
changed, readers take the documents, and an older gateway can use the file.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from ollama_gateway.ledger.document import CREATE_CHANGES, parsed
from ollama_gateway.ledger.facts import ADD_FACTS, CREATE_FACTS, facts_of
from ollama_gateway.log import get_logger
from ollama_gateway.storage.sqlite import Connection, SQLiteFile

SCHEMA_VERSION: Final = 3
SCHEMA: Final = (
    "CREATE TABLE intents (request_id TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE rows (
        seq INTEGER PRIMARY KEY, request_id TEXT NOT NULL UNIQUE,
        document TEXT NOT NULL, hash BLOB NOT NULL)""",
    "CREATE TABLE chain (identity TEXT NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL)",
    CREATE_FACTS,
    CREATE_CHANGES,
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
BATCH: Final = 2000
"""Records of one transaction."""
REPORT_SECONDS: Final = 5.0
"""Seconds between two lines in the log."""
COPY_KEPT: Final = 7 * 86_400.0
"""Seconds for which a copy is kept, unless records are kept for less: for the way back."""
COPIES: Final = "journal-*.db.bak-*"
"""The names of copies."""

# As bytes: an edited file may hold anything.
_NEXT: Final = """SELECT seq, CAST(document AS BLOB) FROM rows
    WHERE seq > coalesce((SELECT max(seq) FROM facts), (SELECT min(seq) FROM rows) - 1)
    ORDER BY seq LIMIT ?"""
# An older gateway may have dropped records since the last try.
_FORGET: Final = "DELETE FROM facts WHERE seq <= (SELECT seq FROM chain)"
_BEGUN: Final = "SELECT 1 FROM sqlite_master WHERE name = 'facts'"
_LENGTH: Final = "SELECT coalesce(max(seq) - min(seq) + 1, 0) FROM rows"

_log = get_logger("audit")


def migrate(file: SQLiteFile) -> None:
    """Bring an owned journal to the newest schema; a million records take half a minute from 1.

    Raises the errors of SQLite and of the file system, and the format's for a newer file.
    """
    if file.version() not in {1, 2}:
        return
    if file.version() == 2 or not file.connection.execute(_BEGUN).fetchall():  # noqa: PLR2004
        file.keep_copy(file.version())
    if file.version() == 1:
        with file.transaction():
            file.connection.execute(CREATE_FACTS)
        _fill(file)
    with file.transaction():
        file.connection.execute(_FORGET)
        file.connection.execute(CREATE_CHANGES)
        file.connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def remove_copies(directory: Path, before: float) -> None:
    """Remove the copies that were made before a moment (seconds since 1970). Raises OSError."""
    for path in directory.glob(COPIES):
        if path.stat().st_mtime < before:
            path.unlink(missing_ok=True)
            _log.info("copy of an older audit journal removed", copy=path.name)


def _fill(file: SQLiteFile) -> None:
    [(whole,)] = file.connection.execute(_LENGTH)
    done, reported = 0, time.monotonic()
    while count := _add_batch(file):
        done += count
        if time.monotonic() > reported + REPORT_SECONDS:
            reported = time.monotonic()
            _log.info("audit journal migrates", journal=file.path.name, rows=done, of=whole)
    _log.info("audit journal migrated", journal=file.path.name, rows=done, schema=SCHEMA_VERSION)


def _add_batch(file: SQLiteFile) -> int:
    connection: Connection = file.connection
    with file.transaction():
        found = connection.execute(_NEXT, (BATCH,)).fetchall()
        rows = [facts_of(seq, parsed(document)) for seq, document in found]
        connection.executemany(ADD_FACTS, rows)
    return len(found)
