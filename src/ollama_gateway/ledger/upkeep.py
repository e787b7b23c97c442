"""Recovers unowned journals, drops expired records and logs the head: a watcher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import attrs

from ollama_gateway.ledger.chain import Checkpoint
from ollama_gateway.ledger.document import Document
from ollama_gateway.ledger.journal import JournalError, reading
from ollama_gateway.ledger.journal_migration import COPY_KEPT, remove_copies
from ollama_gateway.ledger.ownership import has_past, recover
from ollama_gateway.ledger.read.reporting import ReportFault
from ollama_gateway.ledger.retention import HOUR, LOOKED_AT, Clocks, began_of, shown
from ollama_gateway.ledger.writer import JournalWriter
from ollama_gateway.log import get_logger, get_unfiltered_logger
from ollama_gateway.storage.batcher import Runner

TICK: Final = 30.0
"""Seconds between two looks at unowned journals; every second one logs the head."""

_LAST_BEGAN: Final = """SELECT CAST(document AS TEXT) FROM rows WHERE seq <= ?
    ORDER BY seq DESC LIMIT ?"""
_log = get_logger("audit")
_heads = get_unfiltered_logger("audit")


@attrs.define(eq=False)
class Upkeep:
    """Maintains the journal of this process, and the unowned ones beside it."""

    writer: JournalWriter
    key: bytes = attrs.field(repr=False)
    keep: float | None
    """Seconds for which a record is kept; None if records leave the journal only by moving."""
    runner: Runner
    report: ReportFault
    """Takes a line for a journal that cannot be recovered."""
    on_killed: Callable[[Document], None] = lambda _: None
    """Called with each record that was made from the intent of a killed process."""
    clocks: Clocks = attrs.field(factory=Clocks)
    faults: Sequence[str] = attrs.field(factory=tuple, init=False)
    """The unowned journals that the last look left alone, and why."""
    _logged_head: Checkpoint = attrs.field(factory=Checkpoint, init=False)
    _head_before: int = attrs.field(init=False)
    """The seq of the last record from before this process."""
    _looked_at: float | None = attrs.field(default=None, init=False)
    """When it was last checked whether records may be dropped."""
    _is_clock_checked: bool = attrs.field(default=False, init=False)
    """Whether the records from before this process were compared with the clock."""
    _logged_cause: str | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._head_before = self.writer.journal.head.seq

    async def watch(self) -> None:
        """Maintain the journals until cancelled."""
        while True:
            await self.look_after()
            self.log_head()
            await anyio.sleep(TICK)
            await self.recover()
            await anyio.sleep(TICK)

    async def look_after(self) -> None:
        """Recover unowned journals, drop old copies, and once an hour drop expired records."""
        await self._remove_copies()
        before = await self._before()
        await self.recover(before)
        if before is not None:
            await self.writer.trim(before)

    async def _remove_copies(self) -> None:
        kept = COPY_KEPT if self.keep is None else min(self.keep, COPY_KEPT)
        directory = self.writer.journal.path.parent
        try:
            await self.runner(partial(remove_copies, directory, self.clocks.wall() - kept))
        except OSError as error:
            self.report(f"{error.filename}: {error.strerror}")

    async def recover(self, before: float | None = None) -> None:
        """End the open requests of unowned journals, and drop records older than `before`."""
        directory = self.writer.journal.path.parent
        look = partial(recover, directory, before, key=self.key, note=self.on_killed)
        self.faults = await self.runner(look)
        for fault in self.faults:
            self.report(fault)

    def log_head(self) -> None:
        """Log the head: with a kept log an operator can prove that no chain was rebuilt."""
        head = self.writer.journal.head
        if head != self._logged_head:
            name = self.writer.journal.path.stem
            _heads.info("audit head", journal=name, rows=head.seq, hash=head.hash.hex())
        self._logged_head = head

    async def _before(self) -> float | None:
        """Return the moment before which records may be dropped; None if none may be."""
        now = anyio.current_time()
        if self.keep is None or (self._looked_at is not None and now < self._looked_at + HOUR):
            return None
        try:
            return await self._allowed_by_clock(self.clocks.wall() - self.keep)
        except JournalError:
            return None  # the journal's writer logs that
        finally:
            self._looked_at = now

    async def _allowed_by_clock(self, before: float) -> float | None:
        path, journal = self.writer.journal.path, self.writer.journal
        if not self._is_clock_checked:
            records = await self.runner(partial(last_began, path, self._head_before, LOOKED_AT))
            self.clocks.confirm(records)
            self._is_clock_checked = True
        last = await self.runner(partial(last_began, path, journal.head.seq, 1))
        why_not = self.clocks.why_not(next(iter(last), None))
        if why_not is None:
            self._logged_cause = None
            return before
        if await self.runner(partial(has_past, path.parent, before)):
            self._note(why_not, last, before)
        return None

    def _note(self, cause: str, last: Sequence[float], before: float) -> None:
        """Log why expired records are kept, unless that was logged last."""
        if cause != self._logged_cause:
            _log.warning(
                "audit rows past their time are kept",
                cause=cause,
                began_before=shown(before),
                clock=shown(self.clocks.wall()),
                last_row=shown(last[0]) if last else None,
            )
        self._logged_cause = cause


def last_began(path: Path, upto: int, count: int) -> list[float]:
    """Return when the last `count` records up to a seq began, newest first. Raises JournalError."""
    with reading(path) as connection:
        found = connection.execute(_LAST_BEGAN, (upto, count))
        return [began for (text,) in found if (began := began_of(text)) is not None]
