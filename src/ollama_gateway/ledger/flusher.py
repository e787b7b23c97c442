"""Moves finished rows from journals to PostgreSQL, and takes them out of the journal only then.

A batch at a time, oldest first. PostgreSQL being away costs nothing but time: rows stay in the
journal, which is on the disk; here there is never more than one batch. A batch whose commit is in
doubt is sent again, and PostgreSQL leaves alone what it has. The journals of processes that have
ended are moved in the same way.

The rule: a row leaves a journal only after a commit that is known.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import attrs

from ollama_gateway.batcher import Runner
from ollama_gateway.database import DatabaseError
from ollama_gateway.ledger.journal import JournalError, first_rows
from ollama_gateway.ledger.moving import BATCH, move_batch
from ollama_gateway.ledger.ownership import PATTERN, is_orphan
from ollama_gateway.ledger.postgres import AuditTable
from ollama_gateway.ledger.trail import Trail
from ollama_gateway.log import get_logger

PAUSE: Final = 1.0
"""Seconds between two looks at a journal that was moved whole."""
LONGEST: Final = 5.0
"""Seconds between two tries while PostgreSQL is away: doubled with each, up to this."""
DAY: Final = 86_400.0

_log = get_logger("audit")


@attrs.define(eq=False)
class Flusher:
    """Keeps PostgreSQL up to date with the journals of this machine; a watcher.

    It may be cancelled at any moment: what was not moved is moved by whoever comes next.
    """

    trail: Trail
    table: AuditTable
    runner: Runner
    keep: float
    """Seconds that a row is kept."""
    key: bytes = attrs.field(repr=False)
    pause: float = PAUSE
    """Seconds between two looks, and between the first two tries."""
    _failure: str | None = attrs.field(default=None, init=False)

    @property
    def failure(self) -> str | None:
        """Why rows cannot be moved now; None where they can."""
        return self._failure

    @property
    def rows_unmoved(self) -> int:
        """Rows that are in this process's journal and not in PostgreSQL."""
        return self.trail.journal.head.seq - self.trail.journal.anchor.seq

    async def watch(self) -> None:
        """Move rows, for ever."""
        pause, partitioned_at = self.pause, -DAY
        while True:
            try:
                if anyio.current_time() >= partitioned_at + DAY:
                    await self._partition()
                    partitioned_at = anyio.current_time()
                await self.flush()
                await self._flush_orphans()
            except (DatabaseError, JournalError) as error:
                self._note(str(error))
                pause = min(pause * 2, LONGEST)
            else:
                self._note(None)
                pause = self.pause
            await anyio.sleep(pause)

    async def flush(self) -> None:
        """Move all that this process's journal has. Raises DatabaseError, JournalError."""
        journal = self.trail.journal
        while rows := await self.runner(partial(first_rows, journal.path, BATCH)):
            await self.runner(partial(self.table.store, journal.identity, rows))
            await self.trail.drop(rows[-1])

    async def _flush_orphans(self) -> None:
        for path in sorted(self.trail.journal.path.parent.glob(PATTERN)):
            if await self.runner(partial(is_orphan, path)):
                await self._flush_orphan(path)

    async def _flush_orphan(self, path: Path) -> None:
        # To own a journal is to write into it: only where there is something to move.
        move: Callable[[], int | None] = partial(move_batch, path, self.table, self.key)
        while await self.runner(partial(first_rows, path, 1)):
            if not await self.runner(move):
                return

    async def _partition(self) -> None:
        """Make months ahead and drop old ones, where the role may; the default catches the rest."""
        now = datetime.now(UTC)
        try:
            await self.runner(partial(self.table.make_partitions, now))
            dropped = await self.runner(
                partial(self.table.drop_before, now - timedelta(seconds=self.keep))
            )
        except DatabaseError as error:
            if error.is_away:
                raise
            _log.info("audit partitions are left to the owner of the table", cause=str(error))
        else:
            for name in dropped:
                _log.info("audit rows past their time dropped", partition=name)

    def _note(self, failure: str | None) -> None:
        if failure is not None and self._failure is None:
            _log.warning("audit rows wait for PostgreSQL", cause=failure)
        if failure is None and self._failure is not None:
            _log.info("audit rows move to PostgreSQL again")
        self._failure = failure
