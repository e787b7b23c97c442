"""Start requests a few at a time, in the order of their arrival.

When hundreds of requests arrive at once, Trio runs all of them step by step: the first would get
its answer as late as the last, and running streams would stand still until then. The start is most
of a request's cost. So only a few requests start in one turn of the event loop, and those that have
started go on in between: the first answers come at once, and the last ones no later than before.

While requests wait to start, running streams take turns too: the chunks that a stream collects
meanwhile are sent together, which costs as little as one chunk.

No task runs just for this. The first request that waits opens the next turn, and the first request
of those that may go in a turn opens the one after it. Two rules hold: no request holds anything
while it waits for something else, and the request that must open the next turn does so even if it
is cancelled.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import anyio
import anyio.lowlevel
import attrs

STARTS_PER_TURN: Final = 8
"""Requests that start in one turn: half a dozen milliseconds of work. Of twice as many the longest
turn of a burst of 600 takes half as long again, for no less work."""
RUNNING_PER_TURN: Final = 16
"""Streams that go on in one turn while others wait: a fifth of the work of the starts."""


@attrs.define(eq=False)
class _Waiter:
    may_go: anyio.Event = attrs.field(factory=anyio.Event, init=False)
    opens_next: bool = attrs.field(default=False, init=False)
    """Whether this request must open the next turn."""


@attrs.define(eq=False)
class StartPacer:
    """Delays the start of requests; every request waits here once, before any work is done."""

    starts_per_turn: int = STARTS_PER_TURN
    running_per_turn: int = RUNNING_PER_TURN
    _free_starts: int = attrs.field(init=False)
    """Requests that may still start in this turn without waiting."""
    _is_opened_next: bool = attrs.field(default=False, init=False)
    """Whether a waiting request will open the next turn."""
    _are_starting: bool = attrs.field(default=False, init=False)
    """Whether requests wait to start."""
    _starting: deque[_Waiter] = attrs.field(factory=deque, init=False)
    _running: deque[_Waiter] = attrs.field(factory=deque, init=False)

    def __attrs_post_init__(self) -> None:
        self._free_starts = self.starts_per_turn

    async def wait_to_start(self) -> None:
        """Return in a turn of the event loop in which this request may start."""
        if self._free_starts:
            self._free_starts -= 1
        elif self._is_opened_next:
            await self._wait_in(self._starting)
        else:
            self._is_opened_next = self._are_starting = True
            try:
                await anyio.lowlevel.checkpoint()
            finally:
                self._open(1)

    async def give_way(self) -> None:
        """Let requests that wait to start go first; called by a stream after each chunk."""
        if self._are_starting:
            await self._wait_in(self._running)

    async def _wait_in(self, line: deque[_Waiter]) -> None:
        waiter = _Waiter()
        line.append(waiter)
        try:
            await waiter.may_go.wait()
        except BaseException:
            if not waiter.may_go.is_set():
                line.remove(waiter)
            raise
        finally:
            if waiter.opens_next:
                self._open(0)

    def _open(self, started: int) -> None:
        """Open a turn in which `started` requests start already: let the next ones go.

        When no more wait to start, the streams that have waited go on a few at a time all the same.
        """
        batch = _taken(self._starting, self.starts_per_turn)
        going = _taken(self._running, self.running_per_turn)
        for opener in [*batch, *going][:1]:
            opener.opens_next = True
        for waiter in (*batch, *going):
            waiter.may_go.set()
        self._are_starting = bool(batch)
        self._is_opened_next = bool(batch or going)
        self._free_starts = 0 if batch else self.starts_per_turn - started


def _taken(line: deque[_Waiter], most: int) -> list[_Waiter]:
    return [line.popleft() for _ in range(min(most, len(line)))]
