"""Lets requests begin a few at a time, in the order of their arrival.

When hundreds arrive at once, Trio runs all of them a step at a time: each would have its answer
when the last one has, and streams that run already would stand still for so long. To begin is most
of what a request costs. So only a few pass in one turn of the event loop, and in between those that
have begun go on: the first answers come at once, and the last ones no later than before.

The rule: nobody holds anything while it waits for something else; a place is for one turn.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import anyio
import anyio.lowlevel
import attrs

AT_ONCE: Final = 8
"""Requests that pass together: some milliseconds of work."""


@attrs.define(eq=False)
class Turnstile:
    """Passed by every request once, before any work is done for it."""

    at_once: int = AT_ONCE
    _passing: int = attrs.field(default=0, init=False)
    _queue: deque[anyio.Event] = attrs.field(factory=deque, init=False)

    async def pass_through(self) -> None:
        """Wait for a place, and keep it for one turn of the event loop."""
        if self._passing < self.at_once:
            self._passing += 1
        else:
            await self._queued()
        try:
            await anyio.lowlevel.checkpoint()
        finally:
            self._leave()

    async def _queued(self) -> None:
        """Wait until somebody hands over a place."""
        turn = anyio.Event()
        self._queue.append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():
                self._leave()
            else:
                self._queue.remove(turn)
            raise

    def _leave(self) -> None:
        if self._queue:
            self._queue.popleft().set()
        else:
            self._passing -= 1
