"""Selection: takes the best backend for one request, as the backends are now.

Candidates are the backends that are up, host the model, are not paused, and have not been tried by
this request. Of these, the next attempt goes to:

1. one whose breakers admit an attempt. If there is none, the one that admits again first is the
   last resort, once: a breaker never leaves a model without any backend;
2. of these, one with room. If none has room, the request waits in line;
3. of these, the first in order (`evaluation.py`), and before it the one that has the conversation
   in its prefix cache (`affinity.py`).

A request may prefer that one until a moment: while that backend is admitted but has no room, it
waits for that one alone, though others have room. From that moment on, and after a failed attempt,
it takes any.

Requests and `gatewayctl explain` use the same evaluation, so `explain` shows what really happens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from contextlib import nullcontext
from typing import Final, Literal, Protocol

import anyio
import attrs

from ollama_gateway import clock
from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.evaluation import (
    Evaluation,
    RouteRequest,
    evaluate,
    in_order,
    ranked,
)
from ollama_gateway.backends.occupancy import Slot
from ollama_gateway.backends.outlook import Outlook
from ollama_gateway.backends.placement import NOWHERE, Choice, choose, placed
from ollama_gateway.backends.waiting import Waiter, WaitingKind, rejection_for
from ollama_gateway.errors import Unavailable
from ollama_gateway.reasons import Reason

MIN_PAYMENT_PAUSE: Final = 0.01
"""The shortest time, in seconds, before an empty token bucket is asked again."""

LEAST_REST: Final = 1.0
"""Seconds before the end of its wait from which a request takes any backend."""

HedgeSkipped = Literal["no_candidate", "ill", "cold", "full", "cold_prompt", "budget"]
"""Why no hedge was started."""


class TokenBucket(Protocol):
    """Pays for further attempts at backends that are failing."""

    def pay(self) -> bool:
        """Pay for one attempt; return False if the bucket is empty."""
        ...

    def affordable_at(self) -> float:
        """Return the time at which it can pay again if nothing else happens."""
        ...


@attrs.define(eq=False)
class Candidates:
    """The backends that one request may still try."""

    backends: Backends
    route: RouteRequest
    queue_timeout: float
    """Seconds that the request may wait in line, each time."""
    preferred: Backend | None = None
    """The backend for which alone it waits until `prefer_until`."""
    prefer_until: float = -math.inf
    """On the event loop's clock."""
    _tried: set[Backend] = attrs.field(factory=set, init=False)
    _took_the_last_resort: bool = attrs.field(default=False, init=False)
    _choice: Choice | None = attrs.field(default=None, init=False)
    """Where its conversation is, looked up when a backend is first needed."""

    @property
    def are_several(self) -> bool:
        """True if hedging is possible: several backends, and none named by the request."""
        return len(self.backends.all) > 1 and self.route.only is None

    async def next(self, bucket: TokenBucket) -> Slot | None:
        """Take a slot at the best backend that is left, waiting in line if necessary.

        Returns None when no backend is left. After a failed attempt, the bucket pays for attempts
        at backends that are failing too. Raises Unavailable if the wait or the line is too long.
        """
        now = clock.now()
        self._choose(now)
        self._bound_preference(now)
        taken = "wait" if self._is_behind(now) else self.take(bucket, now)
        return await self._wait(bucket, now) if taken == "wait" else taken

    def take_at_once(self, bucket: TokenBucket) -> Slot | None:
        """Take a slot if one is free and no waiting request comes first; never wait."""
        now = clock.now()
        self._choose(now)
        taken = None if self._is_behind(now) else self.take(bucket, now)
        return taken if isinstance(taken, Slot) else None

    def _bound_preference(self, now: float) -> None:
        """Prefer no backend in vain, and none for so long that the request would be rejected."""
        backend = self.preferred
        self.prefer_until = min(self.prefer_until, now + self.queue_timeout - LEAST_REST)
        if backend and backend.health_of(self.route.model).backoff_until >= self.prefer_until:
            self.preferred = None

    def _choose(self, now: float) -> None:
        """Look up where the conversation should go, once."""
        if self._choice is not None:
            return
        self._choice = NOWHERE
        if self.route.conversation is not None:
            self._choice = choose(self.route, self.backends, now)
            self.preferred, self.prefer_until = self._choice.first, self._choice.until

    def hedge(
        self, may_win: Callable[[Evaluation], bool], may_pay: Callable[[Evaluation], bool]
    ) -> Slot | HedgeSkipped:
        """Take a slot for a hedge, or return why there is none."""
        now = clock.now()
        left = self._left(now)
        if not left:
            return "no_candidate"
        if not (left := [e for e in left if e.is_closed]):
            return "ill"
        if not (left := [e for e in left if e.is_warm]):
            return "cold"
        if not (left := [e for e in left if e.has_room]) or self._is_behind(now):
            return "full"
        best = ranked(left)[0]
        if not may_win(best):
            return "cold_prompt"
        return self._slot(best, now, is_hedge=True) if may_pay(best) else "budget"

    def _is_behind(self, now: float) -> bool:
        """Return True if waiting requests must be asked first."""
        line = self.backends.line
        if self.route.is_slotless or not line.is_behind:
            return False
        return line.waits_for(self._kind(now).places)

    def _left(self, now: float) -> list[Evaluation]:
        return [e for e in evaluate(self.route, self.backends, now) if e.backend not in self._tried]

    def _own(self, now: float) -> list[Evaluation]:
        """Return the preferred backend if the request takes, or waits for, that one alone."""
        backend = self.preferred
        if backend is None or self._tried or now >= self.prefer_until:
            return []
        if backend not in self.backends.all or not self.route.can_go_to(backend):
            return []
        own = Evaluation.of(self.route, backend, 0, now)
        return [own] if own.is_admitted else []

    def _eligible(self, now: float) -> list[Evaluation]:
        if own := self._own(now):
            return own
        choice = self._choice or NOWHERE
        left = in_order(self._left(now), choice.first, choice.last)
        if left and not left[0].is_admitted:
            return [] if self._took_the_last_resort else left[:1]
        return [e for e in left if e.is_admitted]

    def take(self, bucket: TokenBucket, now: float) -> Slot | Literal["wait"] | None:
        """Take a slot at the best backend that is left; return "wait" if none of them has room."""
        self._choose(now)
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
        placement = placed(self._choice or NOWHERE, route, self.backends, evaluation, now)
        return Slot.take(
            self.backends,
            evaluation.backend,
            route.model,
            now,
            load_options=route.load_options,
            is_slotless=route.is_slotless,
            is_hedge=is_hedge,
            placement=placement,
        )

    async def _wait(self, bucket: TokenBucket, now: float) -> Slot | None:
        """Wait in line for a slot; return None if no backend is left."""
        deadline = now + self.queue_timeout
        self._check_backoffs(deadline, now)
        wait = _Wait(self, bucket, deadline, self.patience(deadline, now))
        waiter = Waiter(
            self.route.key_id, self._kind, wait.serve, wait.set_alarm, rejection=self._rejection
        )
        own = self._own(now)
        awaited = own[0].replica.work.awaited() if own else nullcontext()
        try:
            with awaited, self.backends.line.joined(waiter, now):
                await wait.run(waiter)
        except BaseException:
            if isinstance(wait.taken, Slot):
                wait.taken.release_probe()
                wait.taken.release()
            raise
        return wait.taken.after_queue(now) if isinstance(wait.taken, Slot) else None

    def _check_backoffs(self, deadline: float, now: float) -> None:
        """Raise Unavailable if all backends back off for longer than the request may wait."""
        healths = [backend.health_of(self.route.model) for backend in self._hosts()]
        if not any(health.backoff_until > deadline for health in healths):
            return
        eligible = self._eligible(now)
        soonest = min((e.health.backoff_until for e in eligible), default=now)
        if soonest > deadline and all(e.is_backing_off for e in eligible):
            raise self.outlook().error(Reason.BACKENDS_FULL)

    def _rejection(self, reason: Reason) -> Unavailable:
        is_ending = reason is Reason.DRAINING
        return rejection_for(reason) if is_ending else self.outlook().error(reason)

    def outlook(self) -> Outlook:
        """Return what stands between the request and its backends, those tried included."""
        now = clock.now()
        return Outlook.of(evaluate(self.route, self.backends, now), now)

    def _kind(self, now: float) -> WaitingKind:
        """Return the kind of waiter: requests of one kind can use the same slots."""
        own = [evaluation.backend for evaluation in self._own(now)]
        hosts = own or self._hosts()
        places: set[Hashable] = {backend.health_of(self.route.model) for backend in hosts}
        state = not self._tried, self._took_the_last_resort, bool(own)
        return WaitingKind(frozenset(places.union(hosts)), state)

    def _hosts(self) -> list[Backend]:
        """Return the backends that are left, also those that are down or paused."""
        route = self.route
        return [b for b in self.backends.all if route.may_go_to(b) and b not in self._tried]

    def next_change(self, deadline: float, bucket: TokenBucket, since: float) -> float:
        """Return when time alone may give this request a slot, at most `deadline`.

        `since` is the moment at which it had none.
        """
        left = self._own(since) or self._left(since)
        times = [moment for evaluation in left for moment in evaluation.changes if moment > since]
        if any(e.has_room and not self._is_free(e) for e in left):
            times.append(max(bucket.affordable_at(), since + MIN_PAYMENT_PAUSE))
        return min([self.patience(deadline, since), *times])

    def patience(self, deadline: float, now: float) -> float:
        """Return until when the request waits for the same backends, at most `deadline`."""
        return self.prefer_until if now < self.prefer_until else deadline


@attrs.define(eq=False)
class _Wait:
    """One request's wait in line, until it has a slot or reaches its deadline."""

    candidates: Candidates
    bucket: TokenBucket
    deadline: float
    _wakes_at: float
    taken: Slot | Literal["wait"] | None = attrs.field(default="wait", init=False)
    _alarm: anyio.CancelScope = attrs.field(factory=anyio.CancelScope, init=False)

    def serve(self, now: float) -> bool:
        """Take a slot if there is one; return whether the wait is over."""
        self.taken = self.candidates.take(self.bucket, now)
        return self.taken != "wait"

    def set_alarm(self, since: float) -> None:
        """Wake up when time alone may give this kind of request a slot."""
        self._wakes_at = self.candidates.next_change(self.deadline, self.bucket, since)
        self._alarm.deadline = self._wakes_at

    async def run(self, waiter: Waiter) -> None:
        """Wait for a slot; raises Unavailable at the deadline."""
        while self.taken == "wait":
            if clock.now() >= self.deadline:
                raise self.candidates.outlook().error(Reason.QUEUE_TIMEOUT)
            self._alarm = anyio.CancelScope(deadline=self._wakes_at)
            with self._alarm:
                await waiter.served()
            if self._alarm.cancelled_caught and self._wakes_at < self.deadline:
                self._wakes_at = self.candidates.patience(self.deadline, clock.now())
                self.candidates.backends.line.look_at(waiter)
