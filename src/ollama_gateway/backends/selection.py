"""Selection: takes the best backend for one request, as the backends are now.

Candidates are the backends that are up, host the model, are not paused, and have not been tried by
this request. Of these, the next attempt goes to:

1. one whose breakers admit an attempt. If there is none, the one that admits again first is the
   last resort, once: a breaker never leaves a model without any backend;
2. of these, one with room. If none has room, the request waits in line;
3. of these, the first in order (`evaluation.py`), and before it the one that has the conversation
   in its prefix cache (`affinity.py`).

Requests and `gatewayctl explain` use the same evaluation, so `explain` shows what really happens.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
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
from ollama_gateway.backends.placement import Choice
from ollama_gateway.backends.waiting import Waiter
from ollama_gateway.errors import Unavailable
from ollama_gateway.reasons import Reason

MIN_PAYMENT_PAUSE: Final = 0.01
"""The shortest time, in seconds, before an empty token bucket is asked again."""

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
    _tried: set[Backend] = attrs.field(factory=set, init=False)
    _took_the_last_resort: bool = attrs.field(default=False, init=False)
    _choice: Choice | None = attrs.field(default=None, init=False)
    """What the conversation wants, decided when a backend is first looked for."""

    @property
    def are_several(self) -> bool:
        """True if hedging is possible: several backends, and none named by the request."""
        return len(self.backends.all) > 1 and self.route.only is None

    async def next(self, bucket: TokenBucket) -> Slot | None:
        """Take a slot at the best backend that is left, waiting in line if necessary.

        Returns None when no backend is left. After a failed attempt, the bucket pays for attempts
        at backends that are failing too. Raises Unavailable if the wait or the line is too long.
        """
        taken = self.take(bucket)
        return await self._wait(bucket) if taken == "wait" else taken

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
        if not (left := [e for e in left if e.has_room]):
            return "full"
        best = ranked(left)[0]
        if not may_win(best):
            return "cold_prompt"
        return self._slot(best, now, is_hedge=True) if may_pay(best) else "budget"

    def _left(self, now: float) -> list[Evaluation]:
        return [e for e in evaluate(self.route, self.backends, now) if e.backend not in self._tried]

    def _eligible(self, now: float) -> list[Evaluation]:
        left = self._left(now)
        if self._choice is None:
            self._choice = self.backends.choose(self.route, left, now)
        left = in_order(left, self._choice.first, self._choice.last)
        if left and not left[0].is_admitted:
            return [] if self._took_the_last_resort else left[:1]
        return [e for e in left if e.is_admitted]

    def take(self, bucket: TokenBucket) -> Slot | Literal["wait"] | None:
        """Take a slot at the best backend that is left; return "wait" if none of them has room."""
        now = clock.now()
        eligible = self._eligible(now)
        if (own := self._awaited(eligible, now)) is not None:
            eligible = [own]
        for evaluation in eligible:
            if evaluation.has_room and (self._is_free(evaluation) or bucket.pay()):
                self._took_the_last_resort |= not evaluation.is_admitted
                return self._slot(evaluation, now)
        return "wait" if any(not evaluation.has_room for evaluation in eligible) else None

    def _awaited(self, eligible: list[Evaluation], now: float) -> Evaluation | None:
        """Return the backend for which alone the request waits now, if any."""
        choice = self._choice
        if choice is None or choice.first is None or now >= choice.until:
            return None
        return next((e for e in eligible if e.backend is choice.first), None)

    def _is_free(self, evaluation: Evaluation) -> bool:
        return not (self._tried and evaluation.is_failing)

    def _slot(self, evaluation: Evaluation, now: float, *, is_hedge: bool = False) -> Slot:
        self._tried.add(evaluation.backend)
        route = self.route
        placement = self.backends.placement(self._choice or Choice(), evaluation, route, now)
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

    async def _wait(self, bucket: TokenBucket) -> Slot | None:
        """Wait in line for a slot; return None if no backend is left."""
        deadline = clock.now() + self.queue_timeout
        self._check_backoffs(deadline)
        wait = _Wait(self, bucket, deadline)
        try:
            now = clock.now()
            own = self._awaited(self._eligible(now), now)
            if own is not None and self._choice is not None:
                with own.replica.work.awaited():
                    await self._stand(wait, min(self._choice.until, deadline))
                if wait.taken == "wait":
                    wait.serve()
            if wait.taken == "wait":
                await self._stand(wait, deadline)
        except BaseException:
            if isinstance(wait.taken, Slot):
                wait.taken.release_probe()
                wait.taken.release()
            raise
        return wait.taken if isinstance(wait.taken, Slot) else None

    async def _stand(self, wait: _Wait, until: float) -> None:
        """Stand in line for a slot until then."""
        wait.until = until
        kind = self._kind()
        with self.backends.line.joined(
            Waiter(self.route.key_id, kind, wait.serve, wait.set_alarm)
        ) as waiter:
            await wait.run(waiter)

    def _check_backoffs(self, deadline: float) -> None:
        """Raise Unavailable if all backends back off for longer than the request may wait."""
        now = clock.now()
        eligible = self._eligible(now)
        soonest = min((e.health.backoff_until for e in eligible), default=now)
        if soonest > deadline and all(e.is_backing_off for e in eligible):
            raise Unavailable(reason=Reason.BACKENDS_FULL, retry_after=soonest - now)

    def _kind(self) -> Hashable:
        """Return the kind of waiter: requests of one kind can use the same slots."""
        left = [b for b in self.backends.all if self.route.may_go_to(b) and b not in self._tried]
        now = clock.now()
        own = self._awaited(self._eligible(now), now)
        if own is not None:
            return own.health, not self._tried, self._took_the_last_resort
        healths = frozenset(backend.health_of(self.route.model) for backend in left)
        return healths, not self._tried, self._took_the_last_resort

    def next_change(self, deadline: float, bucket: TokenBucket) -> float:
        """Return when time alone may give this request a slot, at most `deadline`."""
        now = clock.now()
        left = self._left(now)
        times = [moment for evaluation in left for moment in evaluation.changes if moment > now]
        if any(e.has_room and not self._is_free(e) for e in left):
            times.append(max(bucket.affordable_at(), now + MIN_PAYMENT_PAUSE))
        return min([deadline, *times])


@attrs.define(eq=False)
class _Wait:
    """One request's wait in line, until it has a slot or reaches its deadline."""

    candidates: Candidates
    bucket: TokenBucket
    deadline: float
    taken: Slot | Literal["wait"] | None = attrs.field(default="wait", init=False)
    _alarm: anyio.CancelScope = attrs.field(factory=anyio.CancelScope, init=False)
    _wakes_at: float = attrs.field(init=False)

    until: float = attrs.field(init=False)
    """When this part of the wait ends."""

    def __attrs_post_init__(self) -> None:
        self._wakes_at = self.until = self.deadline

    def serve(self) -> bool:
        """Take a slot if there is one; return whether the wait is over."""
        self.taken = self.candidates.take(self.bucket)
        return self.taken != "wait"

    def set_alarm(self) -> None:
        """Wake up when time alone may give this kind of request a slot."""
        self._wakes_at = self.candidates.next_change(self.until, self.bucket)
        self._alarm.deadline = self._wakes_at

    async def run(self, waiter: Waiter) -> None:
        """Wait for a slot; raises Unavailable at the deadline."""
        while self.taken == "wait":
            if clock.now() >= self.until:
                if self.until < self.deadline:
                    return
                raise Unavailable(reason=Reason.QUEUE_TIMEOUT)
            self._wakes_at = min(self._wakes_at, self.until)
            self._alarm = anyio.CancelScope(deadline=self._wakes_at)
            with self._alarm:
                await waiter.served()
            if self._alarm.cancelled_caught and self._wakes_at < self.until:
                self._wakes_at = self.until
                self.candidates.backends.line.dispatch()
