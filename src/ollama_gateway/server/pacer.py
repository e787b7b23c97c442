"""Start requests a few at a time, in the order of their arrival.

When hundreds of requests arrive at once, Trio runs all of them step by step: the first would get
its answer as late as the last, and running streams would stand still until then. The start is most
of a request's cost. So only a few requests start in one turn of the event loop, and those that have
started go on in between: the first answers come at once, and the last ones no later than before.

While requests wait to start, running streams take turns too: the chunks that a stream collects
meanwhile are sent together, which costs as little as one chunk.

No task runs just for this. The first request that waits opens the next turn, and the first request
of each batch opens the turn after it. Two rules hold: no request holds anything while it waits for
something else, and the request that must open the next turn does so even if it is cancelled.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import anyio
import anyio.lowlevel
import attrs

STARTS_PER_TURN: Final = 16
"""Requests that start in one turn: a dozen milliseconds of work."""
RUNNING_PER_TURN: Final = 16
"""Streams that go on in one turn while requests wait: a tenth of the work of the starts."""


@attrs.define(eq=False)
class _Waiter:
    may_start: anyio.Event = attrs.field(factory=anyio.Event, init=False)
    opens_next: bool = attrs.field(default=False, init=False)
    """Whether this request must open the next turn."""


@attrs.define(eq=False)
class StartPacer:
    """Delays the start of requests; every request waits here once, before any work is done."""

    starts_per_turn: int = STARTS_PER_TURN
    running_per_turn: int = RUNNING_PER_TURN
    _free_starts: int = attrs.field(init=False)
    """Requests that may still start in this turn without waiting."""
    _is_waiting: bool = attrs.field(default=False, init=False)
    """Whether a waiting request will open the next turn."""
    _starting: deque[_Waiter] = attrs.field(factory=deque, init=False)
    _running: deque[anyio.Event] = attrs.field(factory=deque, init=False)

    def __attrs_post_init__(self) -> None:
        self._free_starts = self.starts_per_turn

    async def wait_to_start(self) -> None:
        """Return in a turn of the event loop in which this request may start."""
        if self._free_starts:
            self._free_starts -= 1
        elif self._is_waiting:
            await self._wait_in_line()
        else:
            self._is_waiting = True
            try:
                await anyio.lowlevel.checkpoint()
            finally:
                self._open(1)

    async def give_way(self) -> None:
        """Let requests that wait to start go first; called by a stream after each chunk."""
        if not self._is_waiting:
            return
        turn = anyio.Event()
        self._running.append(turn)
        try:
            await turn.wait()
        except BaseException:
            if not turn.is_set():
                self._running.remove(turn)
            raise

    async def _wait_in_line(self) -> None:
        waiter = _Waiter()
        self._starting.append(waiter)
        try:
            await waiter.may_start.wait()
        except BaseException:
            if not waiter.may_start.is_set():
                self._starting.remove(waiter)
            raise
        finally:
            if waiter.opens_next:
                self._open(0)

    def _open(self, started: int) -> None:
        """Open a turn in which `started` requests start already: let the next batch start."""
        batch = [
            self._starting.popleft() for _ in range(min(self.starts_per_turn, len(self._starting)))
        ]
        if batch:
            batch[0].opens_next = True
        for waiter in batch:
            waiter.may_start.set()
        self._is_waiting = bool(batch)
        self._free_starts = 0 if batch else self.starts_per_turn - started
        going = min(self.running_per_turn, len(self._running)) if batch else len(self._running)
        for _ in range(going):
            self._running.popleft().set()
