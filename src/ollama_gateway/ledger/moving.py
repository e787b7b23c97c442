"""Moves the records of unowned journals to PostgreSQL.

A flusher does it a batch at a time, besides the records of its own process; a command does it all
at once, on a machine where no gateway runs any more. The journal is owned from before records are
read until they are dropped. Everything blocks and raises DatabaseError, JournalError; records moved
until then stay moved, and another run continues.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

import attrs

from ollama_gateway.ledger.journal import Journal, JournalError, first_records
from ollama_gateway.ledger.ownership import JOURNAL_PATTERN, is_unowned, unowned_journal
from ollama_gateway.ledger.postgres import AuditTable
from ollama_gateway.storage.database import DatabaseError

BATCH: Final = 1000
"""Records of one transaction."""


@attrs.define
class MoveResult:
    """The result of one pass over the unowned journals."""

    records: int = 0
    """How many records were moved."""
    faults: list[str] = attrs.field(factory=list)
    """Journals that could not be read, a line for each."""


def move(path: Path, table: AuditTable, key: bytes) -> int | None:
    """Move all records of a journal; return how many, or None if a process owns it.

    Requests that were open in it were killed with its owner, and become `killed` records.
    """
    with unowned_journal(path, key=key) as journal:
        return None if journal is None else sum(iter(partial(_batch, journal, table), 0))


def move_unowned(directory: Path, table: AuditTable, key: bytes) -> MoveResult:
    """Move the oldest records of each unowned journal. Raises DatabaseError.

    A fault of one journal, or of its records, keeps no other one from moving.
    """
    done = MoveResult()
    for path in sorted(directory.glob(JOURNAL_PATTERN)):
        try:
            # Owning a journal writes into it, so only if there is something to move.
            if is_unowned(path) and first_records(path, 1):
                with unowned_journal(path, key=key) as journal:
                    done.records += 0 if journal is None else _batch(journal, table)
        except JournalError as error:
            done.faults.append(str(error))
        except DatabaseError as error:
            if not error.is_bad_data:
                raise
            done.faults.append(f"{path}: {error}")
    return done


def _batch(journal: Journal, table: AuditTable) -> int:
    if records := first_records(journal.path, BATCH):
        table.store(journal.identity, records)
        journal.drop(records[-1])
    return len(records)
