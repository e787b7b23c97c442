"""The race for the first good chunk: candidates in order, one cancel scope, one winner.

The shape is that of happy eyeballs (RFC 8305; trio's `open_tcp_stream` shows it best). The next
attempt starts when all others have failed, or as a hedge beside one that is still running. The
first good chunk cancels the rest. Attempts that may run side by side are tasks.

    nothing runs      the next candidate starts at once, or waits in line for room (failover)
    something runs    the next candidate starts beside it (hedge), once the last attempt has failed
                      or is a hedge delay old, and only where the hedge does no harm

A hedge that may not start is tried again a delay later: by then a backend may have room, or the
model. A losing attempt closes its own connection. The winner is returned, and closed when the block
is left.

Each attempt reports its result to its slot before it gives the slot back. An error is blamed on the
backend, and not on the request, only once another backend has served the request.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

import anyio
import attrs
import trio
from anyio.abc import TaskGroup

from ollama_gateway import clock
from ollama_gateway.backends.evaluation import Evaluation
from ollama_gateway.backends.health import BackendFault
from ollama_gateway.backends.occupancy import Slot
from ollama_gateway.backends.selection import Candidates
from ollama_gateway.errors import GatewayError, UpstreamTimeout
from ollama_gateway.flow.attempt import GoodAnswer
from ollama_gateway.flow.failures import AttemptFailed
from ollama_gateway.flow.fallbacks import Fallbacks
from ollama_gateway.flow.hedging import Hedging, RetryBudget
from ollama_gateway.flow.verdict import verdict
from ollama_gateway.metrics import Metrics
from ollama_gateway.reasons import Reason

MIN_HEDGE_PAUSE: Final = 0.1
"""Seconds at least until a hedge that was skipped is tried again."""

StartAttempt = Callable[[Slot], Awaitable[GoodAnswer]]
"""Makes an attempt, whose answer then owns the slot; raises AttemptFailed, BackendRefused."""


@attrs.frozen
class Rules:
    """The rules and budgets that all races of a process share."""

    max_attempts: int
    hedging: Hedging
    retries: RetryBudget
    metrics: Metrics


@attrs.define(eq=False)
class _Runner:
    """One attempt in the race."""

    slot: Slot
    answer: GoodAnswer | None = None
    failure: AttemptFailed | None = None

    @property
    def is_running(self) -> bool:
        return self.answer is None and self.failure is None


@attrs.define(eq=False)
class Race:
    """One race: a block whose value is the winner, which stays open for the block.

    Entering raises UpstreamTimeout at the deadline; BackendRefused for an error of the client's
    own; and if all attempts failed, the verdict on them: UpstreamFailed (502 or the last attempt's
    status), Unavailable or Forbidden.
    """

    candidates: Candidates | Fallbacks
    start: StartAttempt
    rules: Rules
    deadline: float
    """The moment by which the first good chunk must arrive; the wait for room counts.

    The race enforces it for streams only. A whole answer has the deadline of its request, which the
    caller enforces.
    """
    is_streamed: bool = attrs.field(kw_only=True)
    requested_name: str = attrs.field(kw_only=True)
    """The model's name as the client wrote it."""
    runners: list[_Runner] = attrs.field(factory=list, init=False)
    winner: _Runner | None = attrs.field(default=None, init=False)
    refusal: GatewayError | None = attrs.field(default=None, init=False)
    failed: trio.Event | None = attrs.field(default=None, init=False)
    """Set when an attempt fails; each wait makes a new one."""
    hedge_skipped: set[str] = attrs.field(factory=set, init=False)
    """Why no hedge was started; metrics count each reason once a race."""

    async def __aenter__(self) -> GoodAnswer:
        if not self.is_streamed:
            return await self._run()
        with trio.CancelScope(deadline=self.deadline):
            return await self._run()
        raise (
            UpstreamTimeout
            if self.runners
            else self.candidates.outlook().error(Reason.QUEUE_TIMEOUT)
        )

    async def __aexit__(self, *_: object) -> None:
        if self.winner is not None and self.winner.answer is not None:
            await self.winner.answer.aclose()

    async def _run(self) -> GoodAnswer:
        """Start attempts until one wins or no candidate is left and all have failed."""
        self.rules.hedging.count_request()
        self.rules.retries.count_request()
        try:
            if self.is_streamed and self.candidates.are_several:
                async with anyio.create_task_group() as tasks:
                    await self._start_attempts(tasks)
            else:
                await self._attempt_in_turn()
            if len(self.runners) > 1:
                await _close([r for r in self.runners if r is not self.winner])
        except BaseException:
            await _close(self.runners)
            raise
        finally:
            for runner in self.runners:
                runner.slot.release_probe()
        if self.winner is not None and self.winner.answer is not None:
            return self.winner.answer
        failures = [runner.failure for runner in self.runners if runner.failure]
        raise self.refusal or verdict(failures, self.requested_name, self.candidates.outlook())

    async def _start_attempts(self, tasks: TaskGroup) -> None:
        try:
            while (slot := await self._next()) is not None:
                runner = _Runner(slot)
                self.runners.append(runner)
                tasks.start_soon(self._attempt, runner, tasks.cancel_scope.cancel)
        except GatewayError as refusal:  # from the waiting line; the task group would wrap it
            self.refusal = refusal

    async def _attempt_in_turn(self) -> None:
        """Make one attempt after the other, without tasks; whole answers are never hedged."""
        while (slot := await self._next()) is not None:
            runner = _Runner(slot)
            self.runners.append(runner)
            await self._attempt(runner, _stop_none)

    async def _attempt(self, runner: _Runner, stop_others: Callable[[], None]) -> None:
        slot = runner.slot
        try:
            runner.answer = await self.start(slot)
        except AttemptFailed as failure:
            runner.failure = failure
            wait = failure.retry_after
            slot.failed(failure.fault, failure.reason, clock.now(), retry_after=wait)
            if self.failed is not None:
                self.failed.set()
        except GatewayError as refusal:
            self.refusal = self.refusal or refusal
            stop_others()
        except trio.Cancelled:
            # Asked of the clock: the request's own deadline may have fallen in the same instant.
            if clock.now() >= self.deadline:
                slot.failed(BackendFault.BROKEN, Reason.FIRST_CHUNK_TIMEOUT, clock.now())
            raise
        else:
            if self.winner is None:
                self._win(runner)
            stop_others()
        finally:
            if runner.answer is None:
                slot.release()

    async def _next(self) -> Slot | None:
        """Return the slot of the next attempt once it is due, or None if there is none."""
        delay = self._hedge_delay()
        pause_until = -math.inf
        while len(self.runners) < self.rules.max_attempts and not self._is_decided():
            running = self._running()
            if not running:
                return await self.candidates.next(self)
            latest, now = self.runners[-1], clock.now()
            due = now if latest.failure else latest.slot.began + delay
            if now < (due := max(due, pause_until)):
                self.failed = trio.Event()
                with trio.CancelScope(deadline=due):
                    await self.failed.wait()
            elif slot := self._hedge(running):
                return slot
            else:
                pause_until = now + max(delay, MIN_HEDGE_PAUSE)
        return None

    def _is_decided(self) -> bool:
        return self.winner is not None or self.refusal is not None

    def _running(self) -> list[_Runner]:
        return [runner for runner in self.runners if runner.is_running]

    def _hedge_delay(self) -> float:
        if not (self.is_streamed and self.candidates.are_several):
            return math.inf
        route = self.candidates.route
        return self.rules.hedging.delay(route.model.key, route.size)

    def _hedge(self, running: list[_Runner]) -> Slot | None:
        """Return a slot for a hedge, if a hedge does no harm now."""
        if not all(runner.slot.was_warm for runner in running):
            # The running attempt is loading the model; cancelling it would waste the load.
            found: Slot | str = "cold_attempt"
        else:
            found = self.candidates.hedge(
                partial(_may_win, running), partial(self._may_hedge, running)
            )
        if isinstance(found, Slot):
            self.rules.metrics.hedge("started")
            return found
        if found not in self.hedge_skipped:
            self.hedge_skipped.add(found)
            self.rules.metrics.hedge(found)
        return None

    def _may_hedge(self, running: list[_Runner], candidate: Evaluation) -> bool:
        """Return whether a budget pays for the hedge; see `hedging.py`."""
        if not candidate.is_failing and self.rules.hedging.pay():
            return True
        is_retry = candidate.is_failing or any(r.slot.health.is_failing for r in running)
        return is_retry and self.rules.hedging.is_on and self.pay()

    def pay(self) -> bool:
        """Pay for a retry if the budget allows it; metrics count a refusal once a race."""
        is_paid = self.rules.retries.pay(clock.now())
        if is_paid or "retry" not in self.hedge_skipped:
            self.rules.metrics.retry("started" if is_paid else "budget")
        if not is_paid:
            self.hedge_skipped.add("retry")
        return is_paid

    def affordable_at(self) -> float:
        """Return when a retry can be paid again."""
        return self.rules.retries.affordable_at(clock.now())

    def _win(self, winner: _Runner) -> None:
        """Declare the winner, and report to the slots of the losers what that shows."""
        self.winner = winner
        now = clock.now()
        winner.slot.answered(now, is_timed=self.is_streamed)
        if winner.slot.is_hedge:
            self.rules.metrics.hedge("won")
        if self.is_streamed:
            waited = now - self.runners[0].slot.began
            route = self.candidates.route
            self.rules.hedging.observe(route.model.key, waited, route.size)
        for runner in self.runners:
            if runner.slot.model != winner.slot.model:
                continue  # the request may be wrong for one model and right for another
            if runner.failure is not None and runner.failure.fault is BackendFault.ERROR:
                runner.slot.blame(runner.failure.reason, now)
            elif runner.is_running and runner.slot.began < winner.slot.began:
                runner.slot.failed(BackendFault.BROKEN, Reason.LOST_TO_HEDGE, now)


def _may_win(running: list[_Runner], candidate: Evaluation) -> bool:
    """Return whether a hedge could read the prompt before the running attempts answer.

    An attempt that is late is likely to be late for as long again.
    """
    now = clock.now()
    for runner in running:
        placement = runner.slot.placement
        if placement is not None:
            reads = candidate.replica.prefill.known_seconds(placement.tokens)
            if reads > abs(placement.expected_seconds - (now - runner.slot.began)):
                return False
    return True


def _stop_none() -> None:
    """Stop no other attempt, since none is running."""


async def _close(runners: list[_Runner]) -> None:
    """Close answers that lost: two attempts may succeed in the same instant."""
    async with AsyncExitStack() as closing:
        for runner in runners:
            if runner.answer is not None:
                closing.push_async_callback(runner.answer.aclose)
