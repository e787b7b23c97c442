"""Moves what journals that nobody owns still have to PostgreSQL.

A flusher does it a batch at a time beside the rows of its own process, a command all at once where
no gateway runs on the machine any more. The journal is owned from before rows are read until they
are dropped. Everything blocks and raises DatabaseError, JournalError; what was moved until then
stays moved, and running it again goes on.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

from ollama_gateway.ledger.journal import Journal, first_rows
from ollama_gateway.ledger.ownership import orphan
from ollama_gateway.ledger.postgres import AuditTable

BATCH: Final = 1000
"""Rows of one transaction."""


def move(path: Path, table: AuditTable, key: bytes) -> int | None:
    """Move all rows of a journal; how many, or None where a process owns it.

    Requests that were open in it were killed with its owner, and become such rows.
    """
    with orphan(path, key=key) as journal:
        return None if journal is None else sum(iter(partial(_batch, journal, table), 0))


def move_batch(path: Path, table: AuditTable, key: bytes) -> int | None:
    """Move the oldest rows of a journal; as `move` otherwise."""
    with orphan(path, key=key) as journal:
        return None if journal is None else _batch(journal, table)


def _batch(journal: Journal, table: AuditTable) -> int:
    if rows := first_rows(journal.path, BATCH):
        table.store(journal.identity, rows)
        journal.drop(rows[-1])
    return len(rows)
