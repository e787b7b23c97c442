"""Deadlines that count only the time in which this process runs.

If the event loop is held up for half a second, by a busy machine or by its own work, an answer of
Redis can lie unread for as long. A usual deadline passes in that time, and a healthy Redis looks as
if it hung. So a deadline here is a number of ticks, and a tick that comes late counts as one; the
lateness is counted apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import anyio

IN_TIME: Final = 0.005
"""Seconds by which a tick may be late and is not counted."""


class Ticks:
    """Cancels blocks after a number of ticks; there are no ticks while no block runs.

    Args:
        length: seconds between two ticks.
        note_late: called with the seconds by which a tick came late.

    """

    def __init__(self, length: float, note_late: Callable[[float], None]) -> None:
        self.length = length
        """May be changed; blocks that run keep their number of ticks."""
        self._note_late = note_late
        self._left: dict[anyio.CancelScope, int] = {}
        self._has_blocks = anyio.Event()

    @contextmanager
    def at_most(self, seconds: float) -> Iterator[None]:
        """Cancel the block after this time, or up to a tick earlier; raises nothing."""
        with anyio.CancelScope() as scope:
            self._left[scope] = round(seconds / self.length)
            self._has_blocks.set()
            try:
                yield
            finally:
                del self._left[scope]

    async def run(self) -> None:
        """Tick until cancelled: the task of this service."""
        while True:
            await self._has_blocks.wait()
            due = anyio.current_time() + self.length
            await anyio.sleep_until(due)
            late = anyio.current_time() - due
            if late > IN_TIME:
                self._note_late(late)
            self._tick()

    def _tick(self) -> None:
        for scope in self._left:
            self._left[scope] -= 1
            if self._left[scope] <= 0:
                scope.cancel()
        if not self._left:
            self._has_blocks = anyio.Event()
