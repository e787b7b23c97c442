"""The way to Redis: operations in batches, settlements until they are confirmed, Redis's clock.

Callers submit operations, and one thread runs them, a batch at a time. A settlement must not be
lost, so it is queued here and repeated until Redis has confirmed it; a repetition is harmless.
Settlements go first in every batch, so a client's next request finds what its last one gave back.

The Redis that answers after a failure may have lost everything. So settlements wait for an answer
from the generation in which this process counts.

A batch whose answer is late or lost is run once more if Redis answered lately: a busy machine makes
a healthy Redis late. Redis may have run the first try, or may run it after the second; each
operation counts once all the same, by its request's id. The settlement of such a reservation leaves
a tombstone, in case that one of the two comes after it.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from typing import Any, Final

import anyio
import attrs

from ollama_gateway.limits.redis.forgiving import Forgive
from ollama_gateway.limits.redis.operations import Operation, ReadUsage, Renew, Reserve, Settle
from ollama_gateway.limits.redis.scripts import AccountBroken, Batch, QuotaRedisDown, RedisScripts
from ollama_gateway.limits.redis.ticks import Ticks
from ollama_gateway.log import get_logger
from ollama_gateway.metrics import Metrics
from ollama_gateway.services import running
from ollama_gateway.storage.batcher import Batcher, BatcherFull, BatchFailed, Runner
from ollama_gateway.storage.redis_faults import PASSING, RedisFault

RETRY_SECONDS: Final = 0.2
"""Seconds between two tries while Redis is failing."""
ANSWERED_LATELY: Final = 1.25
"""Seconds since an answer within which a batch may be tried twice: a heartbeat is renewed once a
second, and has a quarter of a second on its way."""
TICKS_A_TIMEOUT: Final = 10
LAST_MOMENT: Final = 0.0015
"""Seconds by which a last moment is early, so that no rounding to milliseconds makes it late."""
MAX_SETTLEMENTS: Final = 100_000
"""Most settlements that wait for Redis; a later one is left to the end of its lease."""
SETTLEMENTS_A_BATCH: Final = 1000
CLOSING_SECONDS: Final = 5.0
"""Seconds at the end for settlements that Redis has not confirmed."""

log = get_logger("limits")


@attrs.frozen
class RedisState:
    """The state of Redis in its last answer."""

    generation: str | None
    """`NAME:OPENS`; None if Redis has lost everything, or has failed since."""
    is_rebuilding: bool
    """Whether a gateway was adding contributions."""
    time: float
    """Redis's clock, in seconds."""
    at: float
    """Our clock when the answer arrived."""


class Pipeline:
    """Carries operations to Redis.

    Args:
        scripts: used by this object alone.
        runner: where blocking calls run.
        metrics: count second tries, and the lateness of this process.

    """

    def __init__(self, scripts: RedisScripts, runner: Runner, metrics: Metrics) -> None:
        self.state: RedisState | None = None
        self.joined: str | None = None
        """The generation in which this process counts."""
        self.failure: RedisFault | None = None
        """Why Redis fails; None if it works."""
        self._logged: set[RedisFault] = set()
        """The causes of this outage that were logged."""
        self._scripts = scripts
        self._metrics = metrics
        self._ticks = Ticks(scripts.timeout / TICKS_A_TIMEOUT, metrics.loop_late)
        self._batcher = Batcher[Sequence[Operation], Sequence[Any]](self._run, runner=runner)
        self._settlements: deque[Settle] = deque()
        self._sent_twice: set[str] = set()
        """Ids of reservations that were sent twice and are not settled."""
        self._is_due = anyio.Event()
        self._must_retry = False

    def allow(self, seconds: float) -> None:
        """Give Redis this long for an answer from now on."""
        self._scripts.timeout = seconds
        self._ticks.length = seconds / TICKS_A_TIMEOUT

    @property
    def is_joined(self) -> bool:
        """Whether the last answer came from the generation in which this process counts."""
        return (
            self.state is not None
            and self.joined is not None
            and self.state.generation == self.joined
        )

    @property
    def settlements_waiting(self) -> int:
        """Settlements that Redis has not confirmed."""
        return len(self._settlements)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Run for the length of a block; at its end, settlements have 5 s to be confirmed."""
        with closing(self._scripts):
            async with self._batcher.opened():
                try:
                    async with running(self._ticks.run), running(self._confirm_always):
                        yield
                finally:
                    with anyio.move_on_after(CLOSING_SECONDS, shield=True):
                        await self._confirm()

    async def submit(self, *operations: Operation) -> Sequence[Any]:
        """Run operations; return the result of each, or a QuotaRedisDown for one that was refused.

        Without operations this only reads the generation and the time. Raises QuotaRedisDown if
        the whole batch failed.
        """
        try:
            return await self._batcher.submit(operations)
        except (BatchFailed, BatcherFull) as error:
            fault = _fault_of(error)
            self.note(fault)
            raise QuotaRedisDown(fault) from error

    async def ask(self, operation: Operation) -> Any:
        """Run one operation and return its result; raises QuotaRedisDown."""
        (outcome,) = await self.submit(operation)
        if isinstance(outcome, QuotaRedisDown):
            raise outcome
        return outcome

    async def ask_in_time(self, operation: Operation) -> Any:
        """Run one operation for a waiting client; return None if time is up.

        Time is the timeout, or twice as much if Redis answered lately.
        """
        tries = 2 if self._answered_lately() else 1
        outcome = None
        with self._ticks.at_most(tries * self._scripts.timeout):
            outcome = await self.ask(operation)
        return outcome  # noqa: RET504 - the block may have been left before

    def settle(self, settlement: Settle) -> None:
        """Queue a settlement; it takes effect before all later operations."""
        request_id = settlement.reservation.request_id
        if request_id in self._sent_twice:
            self._sent_twice.discard(request_id)
            settlement = attrs.evolve(settlement, was_sent_twice=True)
        if len(self._settlements) < MAX_SETTLEMENTS:
            self._settlements.append(settlement)
        self._is_due.set()

    def charge_nothing(self) -> None:
        """Set waiting settlements to no tokens: a contribution has them. They still free places."""
        self._settlements = deque(
            attrs.evolve(waiting, used=0, is_carried=False) for waiting in self._settlements
        )

    def redis_time(self) -> float:
        """Return Redis's clock, or a little less, in seconds; 0 before the first answer."""
        state = self.state
        return state.time + time.monotonic() - state.at if state else 0.0

    async def _confirm_always(self) -> None:
        while True:
            await self._is_due.wait()
            self._is_due = anyio.Event()
            await self._confirm()

    async def _confirm(self) -> None:
        while self._settlements:
            self._must_retry = False
            try:
                await self.submit()
            except QuotaRedisDown:
                self._must_retry = True
            if self._must_retry:
                await anyio.sleep(RETRY_SECONDS)

    def _run(self, items: Sequence[Sequence[Operation]]) -> Sequence[Sequence[Any]]:
        """Run one batch, in the batcher's thread."""
        settlements = self._due()
        try:
            batch = self._tried([*settlements, *itertools.chain(*items)])
        except QuotaRedisDown:
            self.state = self.state and attrs.evolve(self.state, generation=None)
            raise
        self.state = RedisState(batch.generation, batch.is_rebuilding, batch.time, time.monotonic())
        outcomes = iter(batch.outcomes)
        for settlement in settlements:
            self._settlements.popleft()
            if _is_refused(next(outcomes)):
                self._must_retry = True
                self._settlements.append(settlement)  # at the end, where it blocks no others
        return [[_in_epoch(batch, op, next(outcomes)) for op in item] for item in items]

    def _tried(self, operations: Sequence[Operation]) -> Batch:
        """Run a batch, and once more if Redis answered lately and there is time for it."""
        was_lately, began = self._answered_lately(), time.monotonic()
        try:
            return self._scripts.run(self._timed(operations))
        except QuotaRedisDown as error:
            is_in_time = time.monotonic() - began < 1.5 * self._scripts.timeout
            if error.fault not in PASSING or not was_lately or not is_in_time:
                raise
        self._metrics.quota_retried()
        self._sent_twice.update(
            op.request.request_id for op in operations if isinstance(op, Reserve)
        )
        return self._scripts.run(self._timed(operations))

    def _timed(self, operations: Sequence[Operation]) -> Sequence[Operation]:
        """Give each operation that must not take effect late its last moment, from now."""
        if self.state is None:
            return operations
        not_after = self.redis_time() + self._scripts.timeout - LAST_MOMENT
        return [
            attrs.evolve(operation, not_after=not_after)
            if isinstance(operation, Reserve | Renew)
            else operation
            for operation in operations
        ]

    def _answered_lately(self) -> bool:
        return self.state is not None and time.monotonic() - self.state.at <= ANSWERED_LATELY

    def _due(self) -> Sequence[Settle]:
        """Return the settlements of the next batch; they stay queued until it is confirmed."""
        if not self.is_joined:
            self._must_retry = True
            return []
        count = min(len(self._settlements), SETTLEMENTS_A_BATCH)
        return [self._settlements[i] for i in range(count)]

    def note(self, fault: RedisFault | None) -> None:
        """Note why Redis fails, or that it works; log each cause once an outage."""
        if fault is not None and fault not in self._logged:
            self._logged.add(fault)
            log.error("quota store failing", cause=fault.word, reason=fault.line)
        if fault is None and self.failure is not None:
            self._logged.clear()
            log.info("quota store works again")
        self.failure = fault


def _fault_of(error: BatchFailed | BatcherFull) -> RedisFault:
    """Return the cause of a batch's failure; one that never ran waits for a Redis that hangs."""
    cause = error.__cause__
    found = cause.fault if isinstance(cause, QuotaRedisDown) else None
    return found or RedisFault.HUNG


def _is_refused(outcome: Any) -> bool:
    """Return whether a settlement must be repeated; a broken account would refuse it for ever."""
    return isinstance(outcome, QuotaRedisDown) and not isinstance(outcome, AccountBroken)


def _in_epoch(batch: Batch, operation: Operation, outcome: Any) -> Any:
    """Reject the answer of a Redis that had lost everything, or is still being rebuilt."""
    if not isinstance(operation, Reserve | ReadUsage | Forgive) or isinstance(
        outcome, QuotaRedisDown
    ):
        return outcome
    is_current = operation.generation == batch.generation and not batch.is_rebuilding
    return outcome if is_current or operation.generation is None else QuotaRedisDown()
