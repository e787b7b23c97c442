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
from typing import Final, Literal, Protocol

import anyio
import attrs

from ollama_gateway import clock
from ollama_gateway.backends.backends import Backend, Backends
from ollama_gateway.backends.health import Health
from ollama_gateway.backends.occupancy import Slot
from ollama_gateway.backends.waiting import Waiter
from ollama_gateway.errors import Unavailable
from ollama_gateway.wire.load_options import LoadOptions
from ollama_gateway.wire.names import ModelName

MIN_PAYMENT_PAUSE: Final = 0.01
"""Seconds at least until a purse is looked into again."""

HedgeSkipped = Literal["no_candidate", "ill", "cold", "full", "budget"]
"""Why no backend may be asked beside another one."""


class TokenBucket(Protocol):
    """What pays for attempts at backends that are failing."""

    def pay(self) -> bool:
        """Pay for one; False where it is empty."""
        ...

    def affordable_at(self) -> float:
        """When it can pay again, by the passing of time alone."""
        ...


@attrs.frozen
class RouteRequest:
    """What a request asks of a backend."""

    model: ModelName
    key_id: str
    load_options: LoadOptions = ()
    is_slotless: bool = False
    """Whether it costs a backend nothing, so that it needs no room."""
    only: Backend | None = None
    """The one backend that may be asked, where the request has named it."""

    def may_go_to(self, backend: Backend) -> bool:
        """Whether a backend could serve it at all, up or not."""
        return self.only in (None, backend) and backend.hosts(self.model)


@attrs.frozen
class Evaluation:
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
    is_backing_off: bool
    has_room: bool
    is_loaded_so: bool
    """Whether the model was last loaded with the same options."""
    changes: tuple[float, ...]
    """When its breakers admit an attempt again, and when it has rested; also past moments."""

    @classmethod
    def of(cls, route: RouteRequest, backend: Backend, place: int, now: float) -> Evaluation:
        """Judge a backend."""
        health = backend.health_of(route.model)
        breakers = [backend.breaker] if route.is_slotless else [backend.breaker, health.breaker]
        is_backing_off = not route.is_slotless and now < health.backoff_until
        until = [breaker.until for breaker in breakers if breaker.until is not None]
        return cls(
            backend,
            health,
            place,
            is_warm=backend.has_warm(route.model),
            is_admitted=not until or all(breaker.admits(now) for breaker in breakers),
            is_closed=not until,
            is_failing=health.is_failing or backend.breaker.failures > 0,
            is_backing_off=is_backing_off,
            has_room=route.is_slotless or not (is_backing_off or backend.is_full),
            is_loaded_so=health.load_options == route.load_options,
            changes=(*until, health.backoff_until),
        )

    @property
    def open_until(self) -> float:
        """When the last of its breakers admits an attempt again."""
        return max(self.changes[:-1], default=0.0)

    @property
    def rank(self) -> tuple[int, bool, float, bool, int]:
        """The lowest is asked first."""
        backend = self.backend
        busy = backend.in_flight / (backend.slots or 1)
        return backend.priority, not self.is_warm, busy, not self.is_loaded_so, self.place


def evaluate(route: RouteRequest, backends: Backends, now: float) -> list[Evaluation]:
    """All backends that could serve the wish at all, in the order of the settings."""
    return [
        Evaluation.of(route, backend, place, now)
        for place, backend in enumerate(backends.all)
        if backend.is_up and not backend.is_paused and route.may_go_to(backend)
    ]


def in_order(evaluated: list[Evaluation]) -> list[Evaluation]:
    """Those judged, the one to ask first in front; without regard to room."""
    sound = sorted([j for j in evaluated if j.is_admitted], key=lambda j: j.rank)
    if len(sound) == len(evaluated):
        return sound
    return sound + sorted([j for j in evaluated if not j.is_admitted], key=lambda j: j.open_until)


@attrs.define(eq=False)
class Candidates:
    """The backends that one request may still try."""

    backends: Backends
    route: RouteRequest
    queue_timeout: float
    """Seconds that it may wait in line, each time."""
    _tried: set[Backend] = attrs.field(factory=set, init=False)
    _took_the_last_resort: bool = attrs.field(default=False, init=False)

    @property
    def are_several(self) -> bool:
        """Whether one may ever stand beside another: not of one backend, nor where one is named."""
        return len(self.backends.all) > 1 and self.route.only is None

    async def next(self, bucket: TokenBucket) -> Slot | None:
        """A slot at the best backend that is left, waiting in line for it; None when none is left.

        The purse pays for a backend that is itself failing where something has failed before.
        Raises Unavailable where the wait, or the line, is too long.
        """
        taken = self.take(bucket)
        return await self._wait(bucket) if taken == "wait" else taken

    def hedge(self, may_pay: Callable[[Evaluation], bool]) -> Slot | HedgeSkipped:
        """A slot beside an attempt that still runs, or why there is none."""
        now = clock.now()
        left = self._left(now)
        if not left:
            return "no_candidate"
        if not (left := [j for j in left if j.is_closed]):
            return "ill"
        if not (left := [j for j in left if j.is_warm]):
            return "cold"
        if not (left := [j for j in left if j.has_room]):
            return "full"
        best = min(left, key=lambda j: j.rank)
        return self._slot(best, now, is_hedge=True) if may_pay(best) else "budget"

    def _left(self, now: float) -> list[Evaluation]:
        return [j for j in evaluate(self.route, self.backends, now) if j.backend not in self._tried]

    def _eligible(self, now: float) -> list[Evaluation]:
        left = in_order(self._left(now))
        if left and not left[0].is_admitted:
            return [] if self._took_the_last_resort else left[:1]
        return [j for j in left if j.is_admitted]

    def take(self, bucket: TokenBucket) -> Slot | Literal["wait"] | None:
        """A slot at the best backend that is left, as far as that can be had without waiting."""
        now = clock.now()
        eligible = self._eligible(now)
        for evaluation in eligible:
            if evaluation.has_room and (self._is_free(evaluation) or bucket.pay()):
                self._took_the_last_resort |= not evaluation.is_admitted
                return self._slot(evaluation, now)
        return "wait" if any(not evaluation.has_room for evaluation in eligible) else None

    def _is_free(self, evaluation: Evaluation) -> bool:
        return not (self._tried and evaluation.is_failing)

    def _slot(self, evaluation: Evaluation, now: float, *, is_hedge: bool = False) -> Slot:
        self._tried.add(evaluation.backend)
        route = self.route
        return Slot.take(
            self.backends,
            evaluation.backend,
            route.model,
            now,
            load_options=route.load_options,
            is_slotless=route.is_slotless,
            is_hedge=is_hedge,
        )

    async def _wait(self, bucket: TokenBucket) -> Slot | None:
        """Wait in line; the slot that was handed over, or None when no backend is left."""
        deadline = clock.now() + self.queue_timeout
        self._check_that_it_helps(deadline)
        wait = _Wait(self, bucket, deadline)
        try:
            with self.backends.line.joined(
                Waiter(self.route.key_id, self._kind(), wait.serve, wait.set_alarm)
            ) as waiter:
                await wait.run(waiter)
        except BaseException:
            if isinstance(wait.taken, Slot):
                wait.taken.release_probe()
                wait.taken.release()
            raise
        return wait.taken if isinstance(wait.taken, Slot) else None

    def _check_that_it_helps(self, deadline: float) -> None:
        """Refuse at once where all have said that they are full for longer than one may wait."""
        now = clock.now()
        eligible = self._eligible(now)
        soonest = min((j.health.backoff_until for j in eligible), default=now)
        if soonest > deadline and all(j.is_backing_off for j in eligible):
            raise Unavailable(reason="backends_full", retry_after=soonest - now)

    def _kind(self) -> Hashable:
        """What decides of its room: which backends, and how they do with its model."""
        left = [b for b in self.backends.all if self.route.may_go_to(b) and b not in self._tried]
        healths = frozenset(backend.health_of(self.route.model) for backend in left)
        return healths, not self._tried, self._took_the_last_resort

    def next_change(self, deadline: float, bucket: TokenBucket) -> float:
        """When time alone may give this request room, at most `deadline`."""
        now = clock.now()
        left = self._left(now)
        times = [moment for evaluation in left for moment in evaluation.changes if moment > now]
        if any(j.has_room and not self._is_free(j) for j in left):
            times.append(max(bucket.affordable_at(), now + MIN_PAYMENT_PAUSE))
        return min([deadline, *times])


@attrs.define(eq=False)
class _Wait:
    """One request's time in line, until it is served or has waited for too long."""

    candidates: Candidates
    bucket: TokenBucket
    deadline: float
    taken: Slot | Literal["wait"] | None = attrs.field(default="wait", init=False)
    _alarm: anyio.CancelScope = attrs.field(factory=anyio.CancelScope, init=False)
    _wakes_at: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._wakes_at = self.deadline

    def serve(self) -> bool:
        """Take a slot if there is one; whether there is nothing more to wait for."""
        self.taken = self.candidates.take(self.bucket)
        return self.taken != "wait"

    def set_alarm(self) -> None:
        """Look at the clock for all of its kind: wake up when time alone may give them room."""
        self._wakes_at = self.candidates.next_change(self.deadline, self.bucket)
        self._alarm.deadline = self._wakes_at

    async def run(self, waiter: Waiter) -> None:
        """Wait for it; raises Unavailable at the deadline."""
        while self.taken == "wait":
            if clock.now() >= self.deadline:
                raise Unavailable(reason="queue_timeout")
            self._alarm = anyio.CancelScope(deadline=self._wakes_at)
            with self._alarm:
                await waiter.served()
            if self._alarm.cancelled_caught and self._wakes_at < self.deadline:
                self._wakes_at = self.deadline
                self.candidates.backends.line.dispatch()
