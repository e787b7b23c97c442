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

import attrs

from ollama_gateway.ledger.journal import Journal, JournalError, first_rows
from ollama_gateway.ledger.ownership import PATTERN, is_unowned, unowned_journal
from ollama_gateway.ledger.postgres import AuditTable
from ollama_gateway.storage.database import DatabaseError

BATCH: Final = 1000
"""Rows of one transaction."""


@attrs.define
class MoveResult:
    """What became of the journals that nobody owns."""

    records: int = 0
    """How many rows were moved."""
    faults: list[str] = attrs.field(factory=list)
    """Journals that could not be read, a line for each."""


def move(path: Path, table: AuditTable, key: bytes) -> int | None:
    """Move all rows of a journal; how many, or None where a process owns it.

    Requests that were open in it were killed with its owner, and become such rows.
    """
    with unowned_journal(path, key=key) as journal:
        return None if journal is None else sum(iter(partial(_batch, journal, table), 0))


def move_unowned(directory: Path, table: AuditTable, key: bytes) -> MoveResult:
    """Move the oldest rows of each journal that nobody owns. Raises DatabaseError.

    What is wrong with one journal, or with its rows, keeps no other one from moving.
    """
    done = MoveResult()
    for path in sorted(directory.glob(PATTERN)):
        try:
            # To own a journal is to write into it: only where there is something to move.
            if is_unowned(path) and first_rows(path, 1):
                with unowned_journal(path, key=key) as journal:
                    done.records += 0 if journal is None else _batch(journal, table)
        except JournalError as error:
            done.faults.append(str(error))
        except DatabaseError as error:
            if not error.is_of_rows:
                raise
            done.faults.append(f"{path}: {error}")
    return done


def _batch(journal: Journal, table: AuditTable) -> int:
    if records := first_rows(journal.path, BATCH):
        table.store(journal.identity, records)
        journal.drop(records[-1])
    return len(records)
