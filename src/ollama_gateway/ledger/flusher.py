"""Moves finished records from journals to PostgreSQL, and only then drops them from the journal.

It moves a batch at a time, oldest first. While PostgreSQL is away, records stay in the journal on
the disk, and at most one batch is in memory. A batch whose commit is in doubt is sent again;
PostgreSQL skips records that it has. The journals of processes that have ended are moved in the
same way; a fault of one of them delays nothing else.

The rule: a record leaves a journal only after a commit that is known to have succeeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

import anyio
import attrs

from ollama_gateway.ledger.journal import JournalError, first_records
from ollama_gateway.ledger.moving import BATCH, move_unowned
from ollama_gateway.ledger.postgres import AuditTable
from ollama_gateway.ledger.read.reporting import OncePerFault, ReportFault
from ollama_gateway.ledger.writer import JournalWriter
from ollama_gateway.log import get_logger
from ollama_gateway.storage.batcher import Runner
from ollama_gateway.storage.database import DatabaseError

PAUSE: Final = 1.0
"""Seconds until the next look at a journal that was moved completely."""
MAX_PAUSE: Final = 5.0
"""Seconds between two tries while PostgreSQL is away: doubled with each, up to this."""

_log = get_logger("audit")


def log_left_alone(fault: str) -> None:
    """Log a journal that cannot be recovered or moved."""
    _log.error("journal left alone", cause=fault)


@attrs.define(eq=False)
class Flusher:
    """Keeps PostgreSQL up to date with the journals of this machine; a watcher.

    It may be cancelled at any moment: the next flusher moves the rest.
    """

    writer: JournalWriter
    table: AuditTable
    runner: Runner
    """For the journals, and for PostgreSQL unless `database` is given."""
    key: bytes = attrs.field(repr=False)
    pause: float = PAUSE
    """Seconds between two looks, and between the first two tries."""
    report: ReportFault = attrs.field(factory=lambda: OncePerFault(log_left_alone))
    """Takes a line for an unowned journal that cannot be moved."""
    database: Runner = attrs.field(default=attrs.Factory(lambda self: self.runner, takes_self=True))
    """For PostgreSQL."""
    faults: Sequence[str] = attrs.field(factory=tuple, init=False)
    """The unowned journals that the last look left alone, and why."""
    failures: int = attrs.field(default=0, init=False)
    """Looks that failed."""
    _failure: str | None = attrs.field(default=None, init=False)

    @property
    def failure(self) -> str | None:
        """Why the records of this process cannot be moved now; None if they can."""
        return self._failure

    @property
    def rows_unmoved(self) -> int:
        """How many records are in this process's journal and not in PostgreSQL."""
        return self.writer.journal.head.seq - self.writer.journal.checkpoint.seq

    async def watch(self) -> None:
        """Move records until cancelled."""
        pause = self.pause
        while True:
            failure, moved = await self._look()
            self._note(failure)
            self.failures += failure is not None
            pause = min(pause * 2, MAX_PAUSE) if failure is not None else self.pause
            await anyio.sleep(0 if moved and failure is None else pause)

    async def flush(self) -> None:
        """Move the records that this process's journal has now; it does not wait for later ones.

        Raises DatabaseError, JournalError.
        """
        journal = self.writer.journal
        upto = journal.head.seq
        while records := await self.runner(partial(first_records, journal.path, BATCH)):
            await self.database(partial(self.table.store, journal.identity, records))
            await self.writer.drop(records[-1])
            self._note(None)
            if records[-1].seq >= upto:
                return

    async def _look(self) -> tuple[str | None, int]:
        """Move what there is; return why our own do not move, and how many unowned ones did."""
        failure, moved = None, 0
        try:
            failure = await self._move_own()
            moved = await self._move_unowned()
        except DatabaseError as error:
            failure = failure or str(error)
        except Exception as error:  # noqa: BLE001 - records must go on moving, whatever failed
            failure = failure or f"{type(error).__name__}: {error}"
        return failure, moved

    async def _move_own(self) -> str | None:
        """Return the fault of our own journal or record, as unowned journals move regardless."""
        try:
            await self.flush()
        except JournalError as error:
            return str(error)
        except DatabaseError as error:
            if not error.is_bad_data:
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
