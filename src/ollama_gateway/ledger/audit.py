"""Opens the audit services of one process: its journal, the upkeep, the way to PostgreSQL.

At the end, waiting records go into the journal, then the journal's records to PostgreSQL, for a few
seconds each; the rest stays in the journal for the next process. A disk or a server that hangs
delays the end no longer than that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import attrs

from ollama_gateway.ledger.document import Document
from ollama_gateway.ledger.flusher import Flusher, log_left_alone
from ollama_gateway.ledger.journal import Journal
from ollama_gateway.ledger.ownership import own_journal
from ollama_gateway.ledger.partitions import Partitions
from ollama_gateway.ledger.postgres import UPKEEP, AuditTable
from ollama_gateway.ledger.read.reporting import OncePerFault
from ollama_gateway.ledger.recording_changes import JournalChanges
from ollama_gateway.ledger.upkeep import Upkeep
from ollama_gateway.ledger.writer import JournalWriter, write_journal
from ollama_gateway.log import get_logger
from ollama_gateway.storage.batcher import Runner, close_in_time

LAST_FLUSH_SECONDS: Final = 5.0
"""For records that are not in PostgreSQL at the end; the rest stays in the journal."""

_unclosed: Final[list[ExitStack]] = []
"""Journals that could not be closed. Freeing one would make the interpreter wait for the thread
that hangs in it, and then release its lock.
"""
_log = get_logger("audit")


@attrs.frozen
class AuditServices:
    """The services that write and maintain the audit log of one process."""

    writer: JournalWriter
    upkeep: Upkeep
    flusher: Flusher | None
    """None without PostgreSQL."""
    partitions: Partitions | None
    changes: JournalChanges
    """Records what operators change in this process."""

    def keep_for(self, seconds: float) -> None:
        """Keep records for this long from now on."""
        if self.partitions is not None:
            self.partitions.keep = seconds
        else:
            self.upkeep.keep = seconds

    @property
    def rows_unmoved(self) -> int | None:
        """Records in this process's journal and not in PostgreSQL; None without PostgreSQL."""
        return self.flusher.rows_unmoved if self.flusher else None

    @property
    def faults(self) -> Sequence[str]:
        """The unowned journals that are left alone, and why."""
        return sorted({*self.upkeep.faults, *(self.flusher.faults if self.flusher else ())})


@asynccontextmanager
async def open_audit(
    directory: Path,
    database_url: str | None,
    *,
    is_strict: bool,
    key: bytes,
    keep: float,
    runner: Runner,
    database: Runner | None = None,
    note_killed: Callable[[Document], None] = lambda _: None,
) -> AsyncIterator[AuditServices]:
    """Open a journal of this process's own in `directory`, and run its services for the block.

    Args:
        directory: is made if missing; the gateways of one machine share it.
        database_url: the PostgreSQL to which records move; None: they stay.
        is_strict: whether a request is served only if its record is on the disk.
        key: of the chain.
        keep: seconds for which a record is kept.
        runner: runs blocking work.
        database: runs the moves to PostgreSQL, in place of `runner`.
        note_killed: called with each record that was made from the intent of a killed process.

    Raises:
        JournalError: no journal can be opened.
        DatabaseError: the URL is invalid.

    """
    async with AsyncExitStack() as stack:
        owned = ExitStack()
        journal = owned.enter_context(own_journal(directory, is_strict=is_strict, key=key))
        writer = JournalWriter(journal, is_strict=is_strict, runner=runner)
        stack.push_async_callback(_give_up, owned, writer, runner)
        report = OncePerFault(log_left_alone)
        flusher = partitions = None
        if database_url is not None:
            table, months = AuditTable(database_url), AuditTable(database_url, UPKEEP)
            stack.callback(table.close)
            stack.callback(months.close)
            flusher = Flusher(
                writer, table, runner, key, report=report, database=database or runner
            )
            partitions = Partitions(journal, months, keep, runner)
            stack.push_async_callback(_move_the_rest, flusher)
        upkeep = Upkeep(writer, key, None if flusher else keep, runner, report, note_killed)
        for record in journal.killed:
            note_killed(record)
        stack.callback(upkeep.log_head)
        await stack.enter_async_context(write_journal(writer))
        changes = JournalChanges(journal, writer.put_off)
        yield AuditServices(writer, upkeep, flusher, partitions, changes)


async def _give_up(owned: ExitStack, writer: JournalWriter, runner: Runner) -> None:
    """Close the journal and release its lock.

    If a thread hangs in it, it stays ours until the process ends, since that thread may still write
    into it once the disk answers.
    """
    _unclosed.append(owned)
    if not (writer.records_waiting and writer.journal.is_in_use):
        await close_in_time(partial(_close, writer.journal, owned), runner)


def _close(journal: Journal, owned: ExitStack) -> None:
    journal.close()
    owned.close()
    _unclosed.remove(owned)


async def _move_the_rest(flusher: Flusher) -> None:
    if flusher.failure is not None or flusher.writer.records_waiting:
        return  # PostgreSQL or the disk fails
    with anyio.move_on_after(LAST_FLUSH_SECONDS, shield=True):
        try:
            await flusher.flush()
        except Exception as error:  # noqa: BLE001 - after any error the rest stays in the journal
            _log.warning("audit rows stay in the journal", cause=str(error))
