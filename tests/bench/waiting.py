"""How long tasks of the event loop wait for each other."""

from __future__ import annotations

import time

import anyio
import attrs


@attrs.define
class LongestWait:
    """Notes the longest time for which a task that sleeps a millisecond waited beyond it."""

    longest: float = 0.0

    async def watch(self) -> None:
        """Sleep and wake, for ever."""
        while True:
            before = time.perf_counter()
            await anyio.sleep(0.001)
            self.longest = max(self.longest, time.perf_counter() - before - 0.001)
