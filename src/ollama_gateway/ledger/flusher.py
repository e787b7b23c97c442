"""Moves finished rows from journals to PostgreSQL, and takes them out of the journal only then.

A batch at a time, oldest first. PostgreSQL being away costs nothing but time: rows stay in the
journal, which is on the disk; here there is never more than one batch. A batch whose commit is in
doubt is sent again, and PostgreSQL leaves alone what it has. The journals of processes that have
ended are moved in the same way; what is wrong with one of them holds up nothing else.

The rule: a row leaves a journal only after a commit that is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

import anyio
import attrs

from ollama_gateway.ledger.journal import JournalError, first_rows
from ollama_gateway.ledger.moving import BATCH, move_unowned
from ollama_gateway.ledger.postgres import AuditTable
from ollama_gateway.ledger.read.reporting import OncePerFault, ReportFault
from ollama_gateway.ledger.writer import JournalWriter
from ollama_gateway.log import get_logger
from ollama_gateway.storage.batcher import Runner
from ollama_gateway.storage.database import DatabaseError

PAUSE: Final = 1.0
"""Seconds between two looks at a journal that was moved whole."""
LONGEST: Final = 5.0
"""Seconds between two tries while PostgreSQL is away: doubled with each, up to this."""

_log = get_logger("audit")


def log_left_alone(fault: str) -> None:
    """Log a journal that cannot be looked after."""
    _log.error("journal left alone", cause=fault)


@attrs.define(eq=False)
class Flusher:
    """Keeps PostgreSQL up to date with the journals of this machine; a watcher.

    It may be cancelled at any moment: what was not moved is moved by whoever comes next.
    """

    writer: JournalWriter
    table: AuditTable
    runner: Runner
    key: bytes = attrs.field(repr=False)
    pause: float = PAUSE
    """Seconds between two looks, and between the first two tries."""
    report: ReportFault = attrs.field(factory=lambda: OncePerFault(log_left_alone))
    """Takes a line for a journal of others that cannot be moved; not for the same one again."""
    faults: Sequence[str] = attrs.field(factory=tuple, init=False)
    """Of the last look: journals of others that were left alone, and why."""
    _failure: str | None = attrs.field(default=None, init=False)

    @property
    def failure(self) -> str | None:
        """Why the rows of this process cannot be moved now; None where they can."""
        return self._failure

    @property
    def rows_unmoved(self) -> int:
        """Rows that are in this process's journal and not in PostgreSQL."""
        return self.writer.journal.head.seq - self.writer.journal.checkpoint.seq

    async def watch(self) -> None:
        """Move rows, for ever."""
        pause = self.pause
        while True:
            failure, moved = await self._look()
            self._note(failure)
            pause = min(pause * 2, LONGEST) if failure is not None else self.pause
            await anyio.sleep(0 if moved and failure is None else pause)

    async def flush(self) -> None:
        """Move what this process's journal has now; more may come meanwhile, as fast as it moves.

        Raises DatabaseError, JournalError.
        """
        journal = self.writer.journal
        upto = journal.head.seq
        while records := await self.runner(partial(first_rows, journal.path, BATCH)):
            await self.runner(partial(self.table.store, journal.identity, records))
            await self.writer.drop(records[-1])
            self._note(None)
            if records[-1].seq >= upto:
                return

    async def _look(self) -> tuple[str | None, int]:
        """Why rows of this process do not move, and how many of others have."""
        failure, moved = None, 0
        try:
            failure = await self._move_own()
            moved = await self._move_unowned()
        except DatabaseError as error:
            failure = failure or str(error)
        except Exception as error:  # noqa: BLE001 - nobody else would move them
            failure = failure or f"{type(error).__name__}: {error}"
        return failure, moved

    async def _move_own(self) -> str | None:
        """Why not, where it is the fault of the journal or a row: others' move all the same."""
        try:
            await self.flush()
        except JournalError as error:
            return str(error)
        except DatabaseError as error:
            if not error.is_of_rows:
                raise
            return str(error)
        return None

    async def _move_unowned(self) -> int:
        directory = self.writer.journal.path.parent
        done = await self.runner(partial(move_unowned, directory, self.table, self.key))
        self.faults = done.faults
        for fault in done.faults:
            self.report(fault)
        return done.records

    def _note(self, failure: str | None) -> None:
        if failure is not None and self._failure is None:
            _log.warning("audit rows wait for PostgreSQL", cause=failure)
        if failure is None and self._failure is not None:
            _log.info("audit rows move to PostgreSQL again")
        self._failure = failure
