"""Makes and drops the monthly partitions of the audit log in PostgreSQL: a watcher.

This needs a role that owns the table. Months follow PostgreSQL's clock. They are made ahead, so
there is time to wait for a long reader of the table, a moment at a time, while records go on moving
over another connection. Dropping needs more than one clock (`retention.py`), and each drop is a
warning in the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import anyio
import attrs

from ollama_gateway.ledger.journal import Journal, JournalError
from ollama_gateway.ledger.postgres import AuditTable
from ollama_gateway.ledger.retention import HOUR, LOOKED_AT, Clocks, shown
from ollama_gateway.ledger.upkeep import last_began
from ollama_gateway.log import get_logger
from ollama_gateway.storage.batcher import Runner
from ollama_gateway.storage.database import DatabaseError

MIN_PAUSE: Final = 5.0
"""Seconds between two tries after a failure: doubled with each, up to the maximum."""
MAX_PAUSE: Final = 300.0

_log = get_logger("audit")


@attrs.define(eq=False)
class Partitions:
    """Makes months ahead, and drops those that are expired."""

    journal: Journal
    """Of this process: its records from before the start confirm the clock."""
    table: AuditTable
    """Used by this object alone."""
    keep: float
    """Seconds for which a record is kept."""
    runner: Runner
    clocks: Clocks = attrs.field(factory=Clocks)
    min_pause: float = MIN_PAUSE
    _head_before: int = attrs.field(init=False)
    """The seq of the last record from before this process."""
    _is_clock_checked: bool = attrs.field(default=False, init=False)
    """Whether the records from before this process were compared with the clock."""
    _logged_cause: str | None = attrs.field(default=None, init=False)
    """The failure that was logged last."""

    def __attrs_post_init__(self) -> None:
        self._head_before = self.journal.head.seq

    async def watch(self) -> None:
        """Make and drop months once an hour until cancelled; sooner after a failure."""
        pause = self.min_pause
        while True:
            if await self.look():
                pause = self.min_pause
                await anyio.sleep(HOUR)
            else:
                await anyio.sleep(pause)
                pause = min(pause * 2, MAX_PAUSE)

    async def look(self) -> bool:
        """Make and drop months, and log a failure; returns False if it should be retried soon."""
        try:
            await self.look_after()
        except JournalError as error:
            self._note("audit partitions wait for the journal", str(error))
            return False
        except DatabaseError as error:
            is_away = error.is_away
            event = "audit partitions wait" if is_away else "audit partitions are left to the owner"
            self._note(event, str(error))
            return not is_away
        return True

    async def look_after(self) -> None:
        """Make missing months and drop expired ones. Raises DatabaseError, JournalError."""
        now = await self.runner(self.table.now)
        await self.runner(partial(self.table.make_partitions, now))
        limit = now - timedelta(seconds=self.keep)
        past = await self.runner(partial(self.table.partitions_before, limit))
        why_not = await self._clock_doubt(now)
        if why_not is not None and past:
            clocks = {"clock": shown(self.clocks.wall()), "database_clock": shown(now.timestamp())}
            self._note("audit rows past their time are kept", why_not, partitions=past, **clocks)
        if why_not is None:
            self._logged_cause = None
            await self._drop(past, now)

    async def _clock_doubt(self, now: datetime) -> str | None:
        if not self._is_clock_checked:
            self.clocks.confirm(await self._last_began(self._head_before, LOOKED_AT))
            self._is_clock_checked = True
        last = await self._last_began(self.journal.head.seq, 1)
        return self.clocks.why_not(next(iter(last), None), now.timestamp())

    async def _last_began(self, upto: int, count: int) -> Sequence[float]:
        """Return when our chain's last records began: first the journal's, then PostgreSQL's."""
        here = await self.runner(partial(last_began, self.journal.path, upto, count))
        ask = partial(self.table.last_began, self.journal.identity, upto, count)
        return [*here, *await self.runner(ask)]

    async def _drop(self, names: Sequence[str], now: datetime) -> None:
        for name in names:
            dropped = await self.runner(partial(self.table.drop_partition, name))
            _log.warning(
                "audit rows past their time dropped",
                partition=dropped.name,
                rows=dropped.records,
                since=dropped.since,
                until=dropped.until,
                keep_days=round(self.keep / 86_400, 1),
                clock=shown(self.clocks.wall()),
                database_clock=shown(now.timestamp()),
            )

    def _note(self, event: str, cause: str, **more: object) -> None:
        """Log a failure unless it was logged last."""
        if cause != self._logged_cause:
            _log.warning(event, cause=cause, **more)
        self._logged_cause = cause
