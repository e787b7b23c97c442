"""Looks after the months of the trail in PostgreSQL, where its role may: a watcher.

Months are PostgreSQL's own, by its clock. They are made ahead, so there is time: who reads the
table for long is waited for, a moment at a time, while rows go on moving over a connection of their
own. Dropping takes more than one clock (`retention.py`), and each drop is a warning in the log.
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

SHORTEST: Final = 5.0
"""Seconds between two tries where something is in the way: doubled with each, up to the longest."""
LONGEST: Final = 300.0

_log = get_logger("audit")


@attrs.define(eq=False)
class Partitions:
    """Makes months ahead, and drops those that are past their time."""

    journal: Journal
    """Of this process: its rows from before speak for the clock."""
    table: AuditTable
    """Used by this object alone."""
    keep: float
    """Seconds that a row is kept."""
    runner: Runner
    clocks: Clocks = attrs.field(factory=Clocks)
    shortest: float = SHORTEST
    _head_before: int = attrs.field(init=False)
    """The last row that was there before this process."""
    _is_clock_checked: bool = attrs.field(default=False, init=False)
    """Whether the rows from before have said what they think of the clock."""
    _logged_cause: str | None = attrs.field(default=None, init=False)
    """What was told last."""

    def __attrs_post_init__(self) -> None:
        self._head_before = self.journal.head.seq

    async def watch(self) -> None:
        """Look after them once an hour, for ever; sooner where something was in the way."""
        pause = self.shortest
        while True:
            if await self.look():
                pause = self.shortest
                await anyio.sleep(HOUR)
            else:
                await anyio.sleep(pause)
                pause = min(pause * 2, LONGEST)

    async def look(self) -> bool:
        """Whether there is nothing more to do for now."""
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
        """Make what is missing and drop what is past. Raises DatabaseError, JournalError."""
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
        """When the last rows of our chain began: in the journal, and before that in PostgreSQL."""
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
        """Log what is in the way, at its turns."""
        if cause != self._logged_cause:
            _log.warning(event, cause=cause, **more)
        self._logged_cause = cause
