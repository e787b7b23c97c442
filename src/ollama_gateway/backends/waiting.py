"""The line of requests that wait for a slot: key by key in turn, each key in order of arrival.

A slot is handed over, not announced: the code that frees one calls `dispatch`, and the next waiter
takes it at once, so that no newcomer can take it first. If one key has a thousand requests in line,
another key's first request waits for one of them, not for all. When the line is full and another
request arrives, the newest request of the key with the most waiting requests is rejected.

Waiters of one *kind* can use the same slots: if one of them cannot go on, none can. So `dispatch`
asks one of each kind, and one of each kind sets an alarm for all of them.

`serve` of a waiter is a plain function: it takes what the request needs, and returns whether the
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
from ollama_gateway.reasons import Reason

MAX_WAITING: Final = 1024
"""Requests that may wait at once."""


def rejection_for(reason: Reason) -> Unavailable:
    """Return the error of a request that leaves the line without a slot."""
    message = "the gateway is shutting down" if reason is Reason.DRAINING else None
    return Unavailable(message, reason=reason)


@attrs.define(eq=False)
class Waiter:
    """One request in the line."""

    key_id: str
    kind: Hashable
    serve: Callable[[], bool]
    set_alarm: Callable[[], None] = lambda: None
    """Called when this is the first waiter of its kind, at once and after each dispatch in vain."""
    rejection: Callable[[Reason], Unavailable] = rejection_for
    """Returns the error of a request that is rejected."""
    _left: anyio.Event = attrs.field(factory=anyio.Event, init=False)
    _reason: Reason | None = attrs.field(default=None, init=False)

    async def served(self) -> None:
        """Wait until `serve` has returned True; raises Unavailable if the request is rejected."""
        await self._left.wait()
        if self._reason is not None:
            raise self.rejection(self._reason)

    def leave(self, reason: Reason | None = None) -> None:
        """End the wait; with a reason, the request is rejected."""
        self._reason = reason
        self._left.set()


Waiters = dict[Waiter, None]
"""An ordered set: removal from the middle is O(1)."""


@attrs.define(eq=False)
class WaitingLine:
    """All waiting requests of this process."""

    capacity: int = MAX_WAITING
    _is_closed: bool = attrs.field(default=False, init=False)
    _length: int = attrs.field(default=0, init=False)
    _keys: OrderedDict[str, Waiters] = attrs.field(factory=OrderedDict, init=False)
    """By key; the key whose turn it is comes first."""
    _kinds: dict[Hashable, Waiters] = attrs.field(factory=dict, init=False)
    """By kind; the first of each kind has the alarm."""

    def __len__(self) -> int:
        return self._length

    @contextmanager
    def joined(self, waiter: Waiter) -> Iterator[Waiter]:
        """Stand in line for the length of the block; raises Unavailable while draining."""
        if self._is_closed:
            raise rejection_for(Reason.DRAINING)
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
        """Let all waiters go on that can now."""
        stuck: set[Hashable] = set()
        while (waiter := self._next(stuck)) is not None:
            self._remove(waiter)
            waiter.leave()
            if waiter.key_id in self._keys:
                self._keys.move_to_end(waiter.key_id)
        for kind in stuck:
            self._set_alarm(kind)

    def close(self) -> None:
        """Reject all waiters, and let no more join."""
        self._is_closed = True
        for waiter in [waiter for waiting in self._keys.values() for waiter in waiting]:
            self._remove(waiter)
            waiter.leave(Reason.DRAINING)

    def _reject_newest(self) -> None:
        """Reject the newest waiter of the key with the most."""
        longest = max(self._keys.values(), key=len)
        waiter = next(reversed(longest))
        self._remove(waiter)
        waiter.leave(Reason.QUEUE_FULL)

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
        """Let the first waiter of a kind set its alarm."""
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
