"""What a trail needs from time to time: orphans ended, old rows dropped, its head told."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import anyio
import attrs

from ollama_gateway.batcher import Runner
from ollama_gateway.ledger.chain import Anchor
from ollama_gateway.ledger.document import Document
from ollama_gateway.ledger.ownership import adopt
from ollama_gateway.ledger.trail import Trail
from ollama_gateway.log import get_logger

TICK: Final = 30.0
"""Seconds between two looks at the journals of others; the head is told at every second one."""

_log = get_logger("audit")


@attrs.define(eq=False)
class Upkeep:
    """Looks after the trail of this process, and the journals that nobody owns."""

    trail: Trail
    key: bytes = attrs.field(repr=False)
    keep: float | None
    """Seconds that a row is kept; None where rows move, and leave a journal by that alone."""
    runner: Runner
    note: Callable[[Document], None] = lambda _: None
    """Told of each row that was made of what a killed process had left open."""
    _told: Anchor = attrs.field(factory=Anchor, init=False)
    _faults: Sequence[str] = attrs.field(factory=tuple, init=False)

    @property
    def _limit(self) -> float | None:
        """Rows that began before are past their time; seconds since 1970."""
        return None if self.keep is None else time.time() - self.keep

    async def watch(self) -> None:
        """Look after them, for ever."""
        while True:
            await self.adopt()
            if self._limit is not None:
                await self.trail.trim(self._limit)
            self.tell()
            await anyio.sleep(TICK)
            await self.adopt()
            await anyio.sleep(TICK)

    async def adopt(self) -> None:
        """End what killed processes left open, and drop what is past its time in their journals; a
        fault is logged once.
        """
        directory = self.trail.journal.path.parent
        look: Callable[[], list[str]] = partial(
            adopt, directory, self._limit, key=self.key, note=self.note
        )
        faults = await self.runner(look)
        for fault in faults:
            if fault not in self._faults:
                _log.error("journal left alone", cause=fault)
        self._faults = faults

    def tell(self) -> None:
        """Log the head: whoever keeps the log can prove that the trail was not made anew."""
        head = self.trail.journal.head
        if head != self._told:
            name = self.trail.journal.path.stem
            _log.info("audit head", journal=name, rows=head.seq, hash=head.hash.hex())
        self._told = head
