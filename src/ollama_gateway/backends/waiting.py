"""The line of requests that wait for a slot: key by key in turn, each key in order of arrival.

A slot is handed over, not announced: the code that frees one calls `dispatch`, and the next waiter
takes it at once, so that no newcomer can take it first. If one key has a thousand requests in line,
another key's first request waits for one of them, not for all. When the line is full and another
request arrives, the newest request of the key with the most waiting requests is rejected.

Waiters of one *kind* can use the same slots: if one of them cannot go on, none can. A kind names
its *places*: whatever can give its waiters a slot when it changes. Four rules keep a long line
cheap:

- `dispatch` names the place that has changed, and looks only at the kinds that name it;
- of each of these, it asks one waiter, and none once the place is full again;
- one waiter of each kind sets an alarm for all of them;
- a turn of the event loop has a bounded number of looks. Those that are left are *due*: they come
  first in the next turn, and meanwhile a newcomer that needs the same places must join the line.

`serve` of a waiter is a plain function: it takes what the request needs, and returns whether the
wait is over. A waiter whose kind has changed when it is asked in vain moves to its new kind. Every
answer is for one moment, so that no change in time falls between two of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Final

import anyio
import attrs
import trio

from ollama_gateway import clock
from ollama_gateway.errors import Unavailable
from ollama_gateway.reasons import Reason

MAX_WAITING: Final = 1024
"""Requests that may wait at once."""
LOOKS_PER_TURN: Final = 16
"""Waiters that are asked in one turn of the event loop: with 20 backends, 4 ms of work."""
EVERYWHERE: Final = "everywhere"
"""A place that all kinds name."""


@attrs.frozen
class WaitingKind:
    """What its waiters can use; the state tells them from others that wait for the same places."""

    places: frozenset[Hashable]
    state: Hashable = None


def rejection_for(reason: Reason) -> Unavailable:
    """Return the error of a request that leaves the line without a slot."""
    message = "the gateway is shutting down" if reason is Reason.DRAINING else None
    return Unavailable(message, reason=reason)


@attrs.define(eq=False)
class Waiter:
    """One request in the line."""

    key_id: str
    find_kind: Callable[[float], WaitingKind]
    """Returns its kind at a moment."""
    serve: Callable[[float], bool]
    """Called with the present moment."""
    set_alarm: Callable[[float], None] = lambda _: None
    """Called when this is the first waiter of its kind, at once and after each look in vain; the
    moment is the one at which a waiter of its kind was last asked."""
    rejection: Callable[[Reason], Unavailable] = rejection_for
    """Returns the error of a request that is rejected."""
    _left: anyio.Event = attrs.field(factory=anyio.Event, init=False)
    _reason: Reason | None = attrs.field(default=None, init=False)
    alike: _Alike | None = attrs.field(default=None, init=False)
    """The waiters of its kind; None while it is not in line."""

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
class _Alike:
    """The waiters of one kind; the first has the alarm."""

    kind: WaitingKind
    asked_at: float
    waiters: Waiters = attrs.field(factory=dict)

    def set_alarm(self) -> None:
        for waiter in self.waiters:
            waiter.set_alarm(self.asked_at)
            return


@attrs.frozen
class _Change:
    """What made waiters due."""

    place: Hashable
    has_room: Callable[[], bool] | None = None


@attrs.define(eq=False)
class WaitingLine:
    """All waiting requests of this process."""

    capacity: int = MAX_WAITING
    _is_closed: bool = attrs.field(default=False, init=False)
    _length: int = attrs.field(default=0, init=False)
    _keys: OrderedDict[str, Waiters] = attrs.field(factory=OrderedDict, init=False)
    """By key; the key whose turn it is comes first."""
    _kinds: dict[WaitingKind, _Alike] = attrs.field(factory=dict, init=False)
    _places: dict[Hashable, set[_Alike]] = attrs.field(factory=dict, init=False)
    """By place, the kinds that name it."""
    _due: dict[_Change, set[_Alike]] = attrs.field(factory=dict, init=False)
    """The kinds that have not been asked yet since a change."""
    _looks_left: int = attrs.field(default=LOOKS_PER_TURN, init=False)
    """Looks until the next turn of the event loop has to be waited for."""

    def __len__(self) -> int:
        return self._length

    @contextmanager
    def joined(self, waiter: Waiter, now: float) -> Iterator[Waiter]:
        """Stand in line for the length of the block; raises Unavailable while draining.

        Args:
            waiter: one that cannot go on now, or that comes after those that are due.
            now: the present moment, at which that was found.

        """
        if self._is_closed:
            raise rejection_for(Reason.DRAINING)
        self._keys.setdefault(waiter.key_id, {})[waiter] = None
        self._length += 1
        try:
            alike = self._add(waiter, waiter.find_kind(now), now)
            if self._length > self.capacity:
                self._reject_newest()
            if next(iter(alike.waiters), None) is waiter:
                alike.set_alarm()
            if self._due and waiter.alike is not None:
                self._note_due(waiter.alike)
            yield waiter
        finally:
            self._remove(waiter)

    def dispatch(
        self, place: Hashable = EVERYWHERE, has_room: Callable[[], bool] | None = None
    ) -> None:
        """Let all waiters go on that can now, some of them in later turns of the event loop.

        Args:
            place: what has changed; no other place has.
            has_room: given if the change is of use to no waiter once this returns False.

        """
        if kinds := self._places.get(place):
            self._due[_Change(place, has_room)] = set(kinds)
            self._look()

    def look_at(self, waiter: Waiter) -> None:
        """Do the same for one waiter and its kind: time alone has changed what they can use."""
        if (before := waiter.alike) is None:
            return
        alike = self._move(waiter, clock.now())
        if alike is before or len(alike.waiters) == 1:  # others of a new kind were asked before
            self._note_due(alike)
            self._look()

    @property
    def is_behind(self) -> bool:
        """True while waiters are due: those that wait for the same places come before newcomers."""
        return bool(self._due)

    def waits_for(self, places: frozenset[Hashable]) -> bool:
        """Return True if a waiter can use one of these places."""
        return not self._places.keys().isdisjoint(places)

    def close(self) -> None:
        """Reject all waiters, and let no more join."""
        self._is_closed = True
        for waiter in [waiter for waiting in self._keys.values() for waiter in waiting]:
            self._remove(waiter)
            waiter.leave(Reason.DRAINING)
        self._due.clear()

    def _look(self) -> None:
        """Ask those that are due, as many as this turn allows, and the others in the next one."""
        while self._due and (waiter := self._next()) is not None:
            self._remove(waiter)
            waiter.leave()
            if waiter.key_id in self._keys:
                self._keys.move_to_end(waiter.key_id)
            for change in [c for c in self._due if c.has_room is not None and not c.has_room()]:
                del self._due[change]
        if not self._looks_left:
            trio.lowlevel.current_trio_token().run_sync_soon(self._begin_turn, idempotent=True)

    def _begin_turn(self) -> None:
        self._looks_left = LOOKS_PER_TURN
        self._look()

    def _next(self) -> Waiter | None:
        """Return the next waiter that goes on; None if no more can, or none may be asked now."""
        for waiting in self._keys.values():
            for waiter in waiting:
                alike = waiter.alike
                if not any(alike in kinds for kinds in self._due.values()):
                    continue
                if not self._looks_left:
                    return None
                self._looks_left -= 1
                now = clock.now()
                if waiter.serve(now):
                    return waiter
                self._note_vain(waiter, now)
        self._due.clear()
        return None

    def _note_due(self, alike: _Alike) -> None:
        self._due.setdefault(_Change(EVERYWHERE), set()).add(alike)

    def _note_vain(self, waiter: Waiter, now: float) -> None:
        """Note that a waiter cannot go on, nor others of its kind unless its kind has changed."""
        asked = waiter.alike
        if self._move(waiter, now) is not asked:
            return
        asked.asked_at = now
        for kinds in self._due.values():
            kinds.discard(asked)
        asked.set_alarm()

    def _move(self, waiter: Waiter, now: float) -> _Alike:
        """Move a waiter to its present kind, and return the waiters of that."""
        kind = waiter.find_kind(now)
        if waiter.alike is not None and waiter.alike.kind == kind:
            return waiter.alike
        self._drop(waiter)
        alike = self._add(waiter, kind, now)
        if len(alike.waiters) == 1:
            alike.set_alarm()
        return alike

    def _reject_newest(self) -> None:
        """Reject the newest waiter of the key with the most."""
        longest = max(self._keys.values(), key=len)
        waiter = next(reversed(longest))
        self._remove(waiter)
        waiter.leave(Reason.QUEUE_FULL)

    def _add(self, waiter: Waiter, kind: WaitingKind, now: float) -> _Alike:
        if (alike := self._kinds.get(kind)) is None:
            alike = self._kinds[kind] = _Alike(kind, now)
            for place in (EVERYWHERE, *kind.places):
                self._places.setdefault(place, set()).add(alike)
        alike.waiters[waiter] = None
        waiter.alike = alike
        return alike

    def _drop(self, waiter: Waiter) -> None:
        """Remove a waiter from its kind; if it was the first, the next one sets the alarm."""
        alike, waiter.alike = waiter.alike, None
        if alike is None:
            return
        was_first = next(iter(alike.waiters)) is waiter
        del alike.waiters[waiter]
        if alike.waiters:
            if was_first:
                alike.set_alarm()
            return
        del self._kinds[alike.kind]
        for place in (EVERYWHERE, *alike.kind.places):
            self._places[place].discard(alike)
            if not self._places[place]:
                del self._places[place]

    def _remove(self, waiter: Waiter) -> None:
        waiting = self._keys.get(waiter.key_id, {})
        if waiter not in waiting:
            return
        self._length -= 1
        del waiting[waiter]
        if not waiting:
            del self._keys[waiter.key_id]
        self._drop(waiter)
