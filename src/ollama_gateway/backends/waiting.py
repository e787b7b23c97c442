"""The line of requests that wait for a backend with room: in order of arrival, key by key in turn.

Room is handed over, not announced: whoever frees it calls `dispatch`, which lets the next one take
it then and there, so that no newcomer can slip in between. One key with a thousand requests in the
line delays another key's first one by one turn, not by a thousand.

The rule: `serve` of a waiter is a plain function that takes what it needs and says whether the
wait is over.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Final

import anyio
import attrs

from ollama_gateway.errors import Unavailable

CAPACITY: Final = 1024
"""Requests that may wait."""


@attrs.define(eq=False)
class Waiter:
    """One request in the line."""

    key_id: str
    kind: Hashable
    """Waiters of one kind are served by the same room: where one cannot go on, none can."""
    serve: Callable[[], bool]
    _left: anyio.Event = attrs.field(factory=anyio.Event, init=False)
    _is_sent_away: bool = attrs.field(default=False, init=False)

    async def served(self) -> None:
        """Wait until `serve` has said that the wait is over; raises Unavailable in a drain."""
        await self._left.wait()
        if self._is_sent_away:
            raise _draining()

    def leave(self, *, is_sent_away: bool = False) -> None:
        """The wait is over."""
        self._is_sent_away = is_sent_away
        self._left.set()


@attrs.define(eq=False)
class WaitingLine:
    """All that wait in this process."""

    capacity: int = CAPACITY
    _is_closed: bool = attrs.field(default=False, init=False)
    _keys: OrderedDict[str, deque[Waiter]] = attrs.field(factory=OrderedDict, init=False)
    """By key, the one whose turn it is first."""

    def __len__(self) -> int:
        return sum(map(len, self._keys.values()))

    @contextmanager
    def joined(self, waiter: Waiter) -> Iterator[Waiter]:
        """Stand in line for the length of the block; raises Unavailable where nobody may."""
        if self._is_closed:
            raise _draining()
        if len(self) >= self.capacity:
            raise Unavailable(reason="queue_full")
        self._keys.setdefault(waiter.key_id, deque()).append(waiter)
        try:
            yield waiter
        finally:
            if self._remove(waiter):
                self.dispatch()  # who stood behind it has to look at the clock from now on

    def dispatch(self) -> None:
        """Let go on whoever can now."""
        stuck: set[Hashable] = set()
        while (waiter := self._next(stuck)) is not None:
            self._remove(waiter)
            waiter.leave()
            if waiter.key_id in self._keys:
                self._keys.move_to_end(waiter.key_id)

    def close(self) -> None:
        """Send all away, and let nobody join any more."""
        self._is_closed = True
        for waiter in [waiter for waiting in self._keys.values() for waiter in waiting]:
            waiter.leave(is_sent_away=True)
        self._keys.clear()

    def _remove(self, waiter: Waiter) -> bool:
        waiting = self._keys.get(waiter.key_id)
        if waiting is None or waiter not in waiting:
            return False
        waiting.remove(waiter)
        if not waiting:
            del self._keys[waiter.key_id]
        return True

    def _next(self, stuck: set[Hashable]) -> Waiter | None:
        for waiting in self._keys.values():
            for waiter in waiting:
                if waiter.kind in stuck:
                    continue
                if waiter.serve():
                    return waiter
                stuck.add(waiter.kind)
        return None


def _draining() -> Unavailable:
    return Unavailable("the gateway is shutting down", reason="draining")
