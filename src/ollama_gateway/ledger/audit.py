"""The trail of one process put together: its journal, what looks after it, the way to PostgreSQL.

The order of closing: what waits goes into the journal, then what is there to PostgreSQL, for a few
seconds; the rest stays in the journal for whoever comes next.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
import attrs

from ollama_gateway.batcher import Runner
from ollama_gateway.database import DatabaseError
from ollama_gateway.ledger.document import Document
from ollama_gateway.ledger.flusher import Flusher
from ollama_gateway.ledger.journal import JournalError
from ollama_gateway.ledger.ownership import own_journal
from ollama_gateway.ledger.postgres import AuditTable
from ollama_gateway.ledger.trail import Trail, open_trail
from ollama_gateway.ledger.upkeep import Upkeep
from ollama_gateway.log import get_logger

CLOSING: Final = 5.0
"""Seconds at the end for rows that are not in PostgreSQL yet; the rest stays in the journal."""

_log = get_logger("audit")


@attrs.frozen
class Audit:
    """The trail of one process, and what looks after it."""

    trail: Trail
    upkeep: Upkeep
    flusher: Flusher | None
    """None where there is no PostgreSQL."""

    @property
    def rows_unmoved(self) -> int | None:
        """Rows that are in this process's journal and not in PostgreSQL; None without one."""
        return self.flusher.rows_unmoved if self.flusher else None


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
) -> AsyncIterator[Audit]:
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
        journal = stack.enter_context(own_journal(directory, is_strict=is_strict, key=key))
        table = AuditTable(database_url) if database_url else None
        if table is not None:
            stack.callback(table.close)
        trail = Trail(journal, is_strict=is_strict, runner=runner)
        flusher = Flusher(trail, table, runner, keep, key) if table else None
        if flusher is not None:
            stack.push_async_callback(_move_the_rest, flusher)
        upkeep = Upkeep(trail, key, None if table else keep, runner, note_killed)
        for row in journal.killed:
            note_killed(row)
        stack.callback(upkeep.tell)
        await stack.enter_async_context(open_trail(trail))
        yield Audit(trail, upkeep, flusher)


async def _move_the_rest(flusher: Flusher) -> None:
    if flusher.failure is not None:
        return
    with anyio.move_on_after(CLOSING, shield=True):
        try:
            await flusher.flush()
        except (DatabaseError, JournalError) as error:
            _log.warning("audit rows stay in the journal", cause=str(error))
