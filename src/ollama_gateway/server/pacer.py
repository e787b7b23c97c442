"""Lets requests begin a few at a time, in the order of their arrival, and before what runs goes on.

When hundreds arrive at once, Trio runs all of them a step at a time: each would have its answer
when the last one has, and streams that run already would stand still for so long. To begin is most
of what a request costs. So only a few pass in one turn of the event loop, and in between those that
have begun go on: the first answers come at once, and the last ones no later than before.

While requests wait to begin, streams that run take turns too: what a stream has to send meanwhile
leaves together, which costs as little as one chunk of it.

Who waits first looks after the next turn, and who leads a batch of those let in after the one
behind it: so nothing runs where nobody waits. The rules: nobody holds anything while it waits for
something else; whoever was to open the next turn does so on every way out.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import anyio
import anyio.lowlevel
import attrs

STARTS_PER_TURN: Final = 16
"""Requests that pass together: a dozen milliseconds of work."""
RUNNING_PER_TURN: Final = 16
"""Streams that go on in a turn while requests wait: a tenth of the work of those that begin."""


@attrs.define(eq=False)
class _Waiter:
    let_in: anyio.Event = attrs.field(factory=anyio.Event, init=False)
    opens_next: bool = attrs.field(default=False, init=False)
    """Whether the next turn is this one's to open."""


@attrs.define(eq=False)
class StartPacer:
    """Passed by every request once, before any work is done for it."""

    starts_per_turn: int = STARTS_PER_TURN
    running_per_turn: int = RUNNING_PER_TURN
    _free_starts: int = attrs.field(init=False)
    """Requests that may pass without waiting, before somebody has to look after the next turn."""
    _is_waiting: bool = attrs.field(default=False, init=False)
    """Whether a next turn will be opened."""
    _starting: deque[_Waiter] = attrs.field(factory=deque, init=False)
    _running: deque[anyio.Event] = attrs.field(factory=deque, init=False)

    def __attrs_post_init__(self) -> None:
        self._free_starts = self.starts_per_turn

    async def wait_to_start(self) -> None:
        """Return in a turn of the event loop in which this request may begin."""
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
        """Let those that wait to begin go first; for a stream that has its first chunk."""
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
            await waiter.let_in.wait()
        except BaseException:
            if not waiter.let_in.is_set():
                self._starting.remove(waiter)
            raise
        finally:
            if waiter.opens_next:
                self._open(0)

    def _open(self, passing: int) -> None:
        """A new turn has begun, in which so many pass already: let in those of the next one."""
        batch = [
            self._starting.popleft() for _ in range(min(self.starts_per_turn, len(self._starting)))
        ]
        if batch:
            batch[0].opens_next = True
        for waiter in batch:
            waiter.let_in.set()
        self._is_waiting = bool(batch)
        self._free_starts = 0 if batch else self.starts_per_turn - passing
        going = min(self.running_per_turn, len(self._running)) if batch else len(self._running)
        for _ in range(going):
            self._running.popleft().set()
