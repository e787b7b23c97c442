"""The line of requests that wait for a backend with room: in order of arrival, key by key in turn.

Room is handed over, not announced: whoever frees it calls `dispatch`, which lets the next one take
it then and there, so that no newcomer can slip in between. One key with a thousand requests in the
line delays another key's first one by one turn, not by a thousand; and where the line is full, it
is that key's last one who has to go.

Waiters of one *kind* are served by the same room: where one cannot go on, none can. So one of each
kind is asked, and one of each kind looks at the clock for all of them.

The rule: `serve` of a waiter is a plain function that takes what it needs and says whether the
wait is over.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Final

import anyio
import attrs

from ollama_gateway.errors import Unavailable

MAX_WAITING: Final = 1024
"""Requests that may wait."""
DRAINING: Final = "draining"


@attrs.define(eq=False)
class Waiter:
    """One request in the line."""

    key_id: str
    kind: Hashable
    serve: Callable[[], bool]
    set_alarm: Callable[[], None] = lambda: None
    """Called where this one is to look at the clock, and whenever something has changed."""
    _left: anyio.Event = attrs.field(factory=anyio.Event, init=False)
    _reason: str | None = attrs.field(default=None, init=False)

    async def served(self) -> None:
        """Wait until `serve` has said that the wait is over; raises Unavailable if sent away."""
        await self._left.wait()
        if self._reason is not None:
            raise _rejection(self._reason)

    def leave(self, reason: str | None = None) -> None:
        """The wait is over; with a reason, it was in vain."""
        self._reason = reason
        self._left.set()


Waiters = dict[Waiter, None]
"""An ordered set: who leaves from the middle does so in O(1)."""


@attrs.define(eq=False)
class WaitingLine:
    """All that wait in this process."""

    capacity: int = MAX_WAITING
    _is_closed: bool = attrs.field(default=False, init=False)
    _length: int = attrs.field(default=0, init=False)
    _keys: OrderedDict[str, Waiters] = attrs.field(factory=OrderedDict, init=False)
    """By key, the one whose turn it is first."""
    _kinds: dict[Hashable, Waiters] = attrs.field(factory=dict, init=False)
    """By kind; the first of each looks at the clock."""

    def __len__(self) -> int:
        return self._length

    @contextmanager
    def joined(self, waiter: Waiter) -> Iterator[Waiter]:
        """Stand in line for the length of the block; raises Unavailable where nobody may."""
        if self._is_closed:
            raise _rejection(DRAINING)
        self._keys.setdefault(waiter.key_id, {})[waiter] = None
        alike = self._kinds.setdefault(waiter.kind, {})
        alike[waiter] = None
        self._length += 1
        try:
            if self._length > self.capacity:
                self._reject_newest()
            if next(iter(alike), None) is waiter:
                waiter.set_alarm()
            yield waiter
        finally:
            self._remove(waiter)

    def dispatch(self) -> None:
        """Let go on whoever can now."""
        stuck: set[Hashable] = set()
        while (waiter := self._next(stuck)) is not None:
            self._remove(waiter)
            waiter.leave()
            if waiter.key_id in self._keys:
                self._keys.move_to_end(waiter.key_id)
        for kind in stuck:
            self._set_alarm(kind)

    def close(self) -> None:
        """Send all away, and let nobody join any more."""
        self._is_closed = True
        for waiter in [waiter for waiting in self._keys.values() for waiter in waiting]:
            self._remove(waiter)
            waiter.leave(DRAINING)

    def _reject_newest(self) -> None:
        """The last one of the key that has most of the line."""
        longest = max(self._keys.values(), key=len)
        waiter = next(reversed(longest))
        self._remove(waiter)
        waiter.leave("queue_full")

    def _remove(self, waiter: Waiter) -> None:
        waiting = self._keys.get(waiter.key_id, {})
        if waiter not in waiting:
            return
        self._length -= 1
        del waiting[waiter]
        if not waiting:
            del self._keys[waiter.key_id]
        alike = self._kinds[waiter.kind]
        was_first = next(iter(alike)) is waiter
        del alike[waiter]
        if not alike:
            del self._kinds[waiter.kind]
        elif was_first:
            self._set_alarm(waiter.kind)

    def _set_alarm(self, kind: Hashable) -> None:
        """Let the first of a kind look at the clock."""
        for waiter in self._kinds.get(kind, {}):
            waiter.set_alarm()
            return

    def _next(self, stuck: set[Hashable]) -> Waiter | None:
        for waiting in self._keys.values():
            for waiter in waiting:
                if waiter.kind in stuck:
                    continue
                if waiter.serve():
                    return waiter
                stuck.add(waiter.kind)
        return None


def _rejection(reason: str) -> Unavailable:
    message = "the gateway is shutting down" if reason == DRAINING else None
    return Unavailable(message, reason=reason)
