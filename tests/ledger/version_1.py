"""Journals as version 1 of their schema had them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ollama_gateway.ledger.chain import GENESIS, link
from tests.ledger.records import KEY

SCHEMA = """
    CREATE TABLE intents (request_id TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE rows (
        seq INTEGER PRIMARY KEY, request_id TEXT NOT NULL UNIQUE,
        document TEXT NOT NULL, hash BLOB NOT NULL);
    CREATE TABLE chain (identity TEXT NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL);
    INSERT INTO chain VALUES ('11111111-1111-4111-8111-111111111111', 0, zeroblob(32));
    PRAGMA user_version = 1;
"""

Contents = dict[str, list[tuple[Any, ...]]]


def write_version_1(path: Path, documents: Sequence[str], *, first: int = 1) -> None:
    """Write documents into a journal of version 1, which is made if missing, as requests r1, ..."""
    path.parent.mkdir(exist_ok=True)
    is_new = not path.exists()
    with closing(sqlite3.connect(path)) as connection, connection:
        if is_new:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(SCHEMA)
        last = connection.execute("SELECT hash FROM rows WHERE seq = ?", (first - 1,)).fetchone()
        digest = last[0] if last else GENESIS
        for seq, document in enumerate(documents, first):
            digest = link(digest, seq, f"r{seq}", document, KEY)
            connection.execute(
                "INSERT INTO rows VALUES (?, ?, ?, ?)", (seq, f"r{seq}", document, digest)
            )


def contents(path: Path) -> Contents:
    """Return all rows of the tables of version 1, each value as its type and its bytes."""
    columns = {
        "intents": ("request_id", "document"),
        "rows": ("seq", "request_id", "document", "hash"),
        "chain": ("identity", "seq", "hash"),
    }
    with closing(sqlite3.connect(path)) as connection:
        return {
            table: connection.execute(
                f"SELECT {', '.join(f'typeof({n}), CAST({n} AS BLOB)' for n in names)}"  # noqa: S608
                f" FROM {table} ORDER BY 1, 2"
            ).fetchall()
            for table, names in columns.items()
        }


def version(path: Path) -> int:
    """Return the version of a file."""
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
