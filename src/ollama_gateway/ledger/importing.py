"""Moves what journals that nobody owns still have to PostgreSQL, for a command.

It is what a flusher does with the journals of processes that have ended, where no gateway runs on
the machine any more to do it. Everything blocks and raises DatabaseError, JournalError; what was
moved until then stays moved, and running it again goes on.
"""

from __future__ import annotations

from pathlib import Path

from ollama_gateway.ledger.flusher import BATCH
from ollama_gateway.ledger.journal import Journal, first_rows
from ollama_gateway.ledger.ownership import orphan
from ollama_gateway.ledger.postgres import AuditTable


def move(path: Path, table: AuditTable, key: bytes) -> int | None:
    """Move all rows of a journal; how many, or None where a process owns it.

    Requests that were open in it were killed with its owner, and become such rows.
    """
    with orphan(path, key=key) as journal:
        return None if journal is None else _moved(journal, table)


def _moved(journal: Journal, table: AuditTable) -> int:
    count = 0
    while rows := first_rows(journal.path, BATCH):
        table.store(journal.identity, rows)
        journal.drop(rows[-1])
        count += len(rows)
    return count
