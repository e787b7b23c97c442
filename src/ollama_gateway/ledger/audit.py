"""The trail of one process put together: its journal, what looks after it, the way to PostgreSQL.

The order of closing: what waits goes into the journal, then what is there to PostgreSQL, for a few
seconds; the rest stays in the journal for whoever comes next. A disk or a server that hangs holds
up nothing of it for longer.
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
from ollama_gateway.ledger.upkeep import Upkeep
from ollama_gateway.ledger.writer import JournalWriter, write_journal
from ollama_gateway.log import get_logger
from ollama_gateway.storage.batcher import Runner, let_go

CLOSING: Final = 5.0
"""Seconds at the end for rows that are not in PostgreSQL yet; the rest stays in the journal."""

_unclosed: Final[list[ExitStack]] = []
"""Journals that could not be closed: what is not held is let go of by the interpreter, which would
wait for the thread in it and give its lock away.
"""
_log = get_logger("audit")


@attrs.frozen
class AuditServices:
    """The trail of one process, and what looks after it."""

    writer: JournalWriter
    upkeep: Upkeep
    flusher: Flusher | None
    """None where there is no PostgreSQL."""
    partitions: Partitions | None

    @property
    def rows_unmoved(self) -> int | None:
        """Rows that are in this process's journal and not in PostgreSQL; None without one."""
        return self.flusher.rows_unmoved if self.flusher else None

    @property
    def faults(self) -> Sequence[str]:
        """Journals of ended processes that are left alone, and why."""
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
    note_killed: Callable[[Document], None] = lambda _: None,
) -> AsyncIterator[AuditServices]:
    """The trail for the length of the block, in a journal of this process's own in `directory`.

    Args:
        directory: made where there is none; shared by the gateways of one machine.
        database_url: where rows go from there; None: they stay.
        is_strict: whether nothing is served that is not on the disk.
        key: of the chain.
        keep: seconds that a row is kept.
        runner: where blocking work runs.
        note_killed: told of each row that is made of what a killed process left open.

    Raises:
        JournalError: no journal can be opened.
        DatabaseError: the URL cannot be understood.

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
            flusher = Flusher(writer, table, runner, key, report=report)
            partitions = Partitions(journal, months, keep, runner)
            stack.push_async_callback(_move_the_rest, flusher)
        upkeep = Upkeep(writer, key, None if flusher else keep, runner, report, note_killed)
        for record in journal.killed:
            note_killed(record)
        stack.callback(upkeep.log_head)
        await stack.enter_async_context(write_journal(writer))
        yield AuditServices(writer, upkeep, flusher, partitions)


async def _give_up(owned: ExitStack, writer: JournalWriter, runner: Runner) -> None:
    """Let others have the journal; one in which a thread hangs stays ours until the process ends,
    as that thread may write into it when the disk goes on.
    """
    _unclosed.append(owned)
    if not (writer.rows_waiting and writer.journal.is_in_use):
        await let_go(partial(_close, writer.journal, owned), runner)


def _close(journal: Journal, owned: ExitStack) -> None:
    journal.close()
    owned.close()
    _unclosed.remove(owned)


async def _move_the_rest(flusher: Flusher) -> None:
    if flusher.failure is not None or flusher.writer.rows_waiting:
        return  # PostgreSQL or the disk does not work
    with anyio.move_on_after(CLOSING, shield=True):
        try:
            await flusher.flush()
        except Exception as error:  # noqa: BLE001 - whatever it is, the rest stays in the journal
            _log.warning("audit rows stay in the journal", cause=str(error))
