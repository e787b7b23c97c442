"""Who is asked next: the backends of one request judged as they are now, best first.

Of the backends that are up, host the model, are not paused and were not tried by this request:

1. those whose breakers admit an attempt; only where there are none, the least bad of the others,
   once: a breaker never leaves a model without any backend;
2. of these, those with room; where none has, the request waits in line;
3. of these, by tier (`priority`), warm before cold, the least busy for its slots, the one that last
   loaded the model with the same options, the order of the settings.

The same judgement serves requests and `gatewayctl explain`, so that it tells what really happens.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Literal

import anyio
import attrs

from ollama_gateway.backends.backends import Backend, Backends
from ollama_gateway.backends.health import Health
from ollama_gateway.backends.occupancy import Slot
from ollama_gateway.backends.waiting import Waiter
from ollama_gateway.errors import Unavailable
from ollama_gateway.wire.load_options import LoadOptions
from ollama_gateway.wire.names import ModelName

Withheld = Literal["no_candidate", "ill", "cold", "full", "budget"]
"""Why no backend may be asked beside another one."""


@attrs.frozen
class Wish:
    """What a request asks of a backend."""

    model: ModelName
    key_id: str
    load_options: LoadOptions = ()
    is_light: bool = False
    """Whether it costs a backend nothing, so that it needs no room."""


@attrs.frozen
class Judgement:
    """One backend, as it is now, for one wish."""

    backend: Backend
    health: Health
    place: int
    """In the order of the settings and priorities."""
    is_warm: bool
    is_admitted: bool
    """Whether its breakers let an attempt begin."""
    is_closed: bool
    """Whether its breakers are closed."""
    is_failing: bool
    """Whether its last attempt failed."""
    is_resting: bool
    has_room: bool
    is_loaded_so: bool
    """Whether the model was last loaded with the same options."""
    admits_at: float
    """When its breakers admit an attempt again, and it has rested."""

    @classmethod
    def of(cls, wish: Wish, backend: Backend, place: int, now: float) -> Judgement:
        """Judge a backend."""
        health = backend.health_of(wish.model)
        breakers = [backend.breaker] if wish.is_light else [backend.breaker, health.breaker]
        is_resting = not wish.is_light and now < health.rests_until
        until = [breaker.until for breaker in breakers if breaker.until is not None]
        return cls(
            backend,
            health,
            place,
            is_warm=backend.has_warm(wish.model),
            is_admitted=all(breaker.admits(now) for breaker in breakers),
            is_closed=not until,
            is_failing=health.is_failing or backend.breaker.failures > 0,
            is_resting=is_resting,
            has_room=wish.is_light or not (is_resting or backend.is_full),
            is_loaded_so=health.load_options == wish.load_options,
            admits_at=max([*until, health.rests_until]),
        )

    @property
    def rank(self) -> tuple[int, bool, float, bool, int]:
        """The lowest is asked first."""
        backend = self.backend
        busy = backend.in_flight / (backend.slots or 1)
        return backend.priority, not self.is_warm, busy, not self.is_loaded_so, self.place


def judge(wish: Wish, backends: Backends, now: float) -> list[Judgement]:
    """All backends that could serve the wish at all, in the order of the settings."""
    return [
        Judgement.of(wish, backend, place, now)
        for place, backend in enumerate(backends.all)
        if backend.is_up and not backend.is_paused and backend.hosts(wish.model)
    ]


def in_order(judged: list[Judgement]) -> list[Judgement]:
    """Those judged, the one to ask first in front; without regard to room."""
    sound = sorted((j for j in judged if j.is_admitted), key=lambda j: j.rank)
    return sound + sorted((j for j in judged if not j.is_admitted), key=lambda j: j.admits_at)


@attrs.define(eq=False)
class Candidates:
    """The backends that one request may still try."""

    backends: Backends
    wish: Wish
    queue_timeout: float
    """Seconds that it may wait in line, each time."""
    _tried: set[Backend] = attrs.field(factory=set, init=False)
    _took_the_least_bad: bool = attrs.field(default=False, init=False)

    async def next(self, may_retry: Callable[[], bool]) -> Slot | None:
        """A slot at the best backend that is left, waiting in line for it; None when none is left.

        `may_retry` is asked before a backend that is itself failing gets what has failed elsewhere.
        Raises Unavailable where the wait, or the line, is too long.
        """
        taken = self.take(may_retry)
        return await self._wait(may_retry) if taken == "wait" else taken

    def hedge(self, may_pay: Callable[[], bool]) -> Slot | Withheld:
        """A slot beside an attempt that still runs, or why there is none."""
        now = anyio.current_time()
        left = self._left(now)
        if not left:
            return "no_candidate"
        if not (left := [j for j in left if j.is_closed]):
            return "ill"
        if not (left := [j for j in left if j.is_warm]):
            return "cold"
        if not (left := [j for j in left if j.has_room]):
            return "full"
        if not may_pay():
            return "budget"
        return self._slot(min(left, key=lambda j: j.rank), now, is_hedge=True)

    def _left(self, now: float) -> list[Judgement]:
        return [j for j in judge(self.wish, self.backends, now) if j.backend not in self._tried]

    def _eligible(self, now: float) -> list[Judgement]:
        left = in_order(self._left(now))
        sound = [j for j in left if j.is_admitted]
        return sound or ([] if self._took_the_least_bad else left[:1])

    def take(self, may_retry: Callable[[], bool]) -> Slot | Literal["wait"] | None:
        """A slot at the best backend that is left, as far as that can be had without waiting."""
        now = anyio.current_time()
        eligible = self._eligible(now)
        for judgement in eligible:
            is_free = not (self._tried and judgement.is_failing)
            if judgement.has_room and (is_free or may_retry()):
                self._took_the_least_bad |= not judgement.is_admitted
                return self._slot(judgement, now)
        return "wait" if any(not judgement.has_room for judgement in eligible) else None

    def _slot(self, judgement: Judgement, now: float, *, is_hedge: bool = False) -> Slot:
        self._tried.add(judgement.backend)
        wish = self.wish
        return Slot.take(
            self.backends,
            judgement.backend,
            wish.model,
            now,
            load_options=wish.load_options,
            is_light=wish.is_light,
            is_hedge=is_hedge,
        )

    async def _wait(self, may_retry: Callable[[], bool]) -> Slot | None:
        """Wait in line; the slot that was handed over, or None when no backend is left."""
        deadline = anyio.current_time() + self.queue_timeout
        self._check_that_it_helps(deadline)
        turn = _Turn(self, may_retry, deadline)
        try:
            with self.backends.line.joined(
                Waiter(self.wish.key_id, self._kind(), turn.serve)
            ) as waiter:
                await turn.come(waiter)
        except BaseException:
            if isinstance(turn.taken, Slot):
                turn.taken.release()
            raise
        return turn.taken if isinstance(turn.taken, Slot) else None

    def _check_that_it_helps(self, deadline: float) -> None:
        """Refuse at once where all have said that they are full for longer than one may wait."""
        now = anyio.current_time()
        soonest = min((j.admits_at for j in self._eligible(now)), default=now)
        if soonest > deadline:
            raise Unavailable(reason="backends_full", retry_after=soonest - now)

    def _kind(self) -> Hashable:
        return self.wish.model.key, frozenset(self._tried)

    def next_change(self, deadline: float) -> float:
        """When time alone may give this request room, at most `deadline`."""
        now = anyio.current_time()
        return min([deadline, *(j.admits_at for j in self._left(now) if j.admits_at > now)])


@attrs.define(eq=False)
class _Turn:
    """One request's time in line, until it is served or has waited for too long."""

    candidates: Candidates
    may_retry: Callable[[], bool]
    deadline: float
    taken: Slot | Literal["wait"] | None = attrs.field(default="wait", init=False)
    _alarm: anyio.CancelScope = attrs.field(factory=anyio.CancelScope, init=False)

    def serve(self) -> bool:
        """Take a slot if there is one; whether there is nothing more to wait for."""
        self.taken = self.candidates.take(self.may_retry)
        self._alarm.deadline = self.candidates.next_change(self.deadline)
        return self.taken != "wait"

    async def come(self, waiter: Waiter) -> None:
        """Wait for it; raises Unavailable at the deadline."""
        while self.taken == "wait":
            if anyio.current_time() >= self.deadline:
                raise Unavailable(reason="queue_timeout")
            self._alarm = anyio.CancelScope(deadline=self.candidates.next_change(self.deadline))
            with self._alarm:
                await waiter.served()
            if self._alarm.cancelled_caught:  # time alone may have given somebody room
                self.candidates.backends.line.dispatch()
