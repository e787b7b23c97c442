"""The way to Redis: operations in batches, settlements until they are confirmed, Redis's clock.

Callers submit operations, and one thread runs them, a batch at a time. A settlement must not be
lost, so it is queued here and repeated until Redis has confirmed it; a repetition is harmless.
Settlements go first in every batch, so a client's next request finds what its last one gave back.

The Redis that answers after a failure may have lost everything. So settlements wait for an answer
from the generation in which this process counts.
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

from ollama_gateway.limits.redis.operations import Operation, ReadUsage, Reserve, Settle
from ollama_gateway.limits.redis.scripts import AccountBroken, Batch, QuotaRedisDown, RedisScripts
from ollama_gateway.log import get_logger
from ollama_gateway.services import running
from ollama_gateway.storage.batcher import Batcher, BatcherFull, BatchFailed, Runner

RETRY_SECONDS: Final = 0.2
"""Seconds between two tries while Redis is failing."""
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

    """

    def __init__(self, scripts: RedisScripts, runner: Runner) -> None:
        self.state: RedisState | None = None
        self.joined: str | None = None
        """The generation in which this process counts."""
        self.is_failing = False
        self._scripts = scripts
        self._batcher = Batcher[Sequence[Operation], Sequence[Any]](self._run, runner=runner)
        self._settlements: deque[Settle] = deque()
        self._is_due = anyio.Event()
        self._must_retry = False

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
                    async with running(self._confirm_always):
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
            self.note(failing=True)
            raise QuotaRedisDown("Redis does not answer") from error

    async def ask(self, operation: Operation) -> Any:
        """Run one operation and return its result; raises QuotaRedisDown."""
        (outcome,) = await self.submit(operation)
        if isinstance(outcome, QuotaRedisDown):
            raise outcome
        return outcome

    def settle(self, settlement: Settle) -> None:
        """Queue a settlement; it takes effect before all later operations."""
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
            batch = self._scripts.run([*settlements, *itertools.chain(*items)])
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

    def _due(self) -> Sequence[Settle]:
        """Return the settlements of the next batch; they stay queued until it is confirmed."""
        if not self.is_joined:
            self._must_retry = True
            return []
        count = min(len(self._settlements), SETTLEMENTS_A_BATCH)
        return [self._settlements[i] for i in range(count)]

    def note(self, *, failing: bool) -> None:
        """Note whether Redis works; log changes only, as every request would report a failure."""
        if failing and not self.is_failing:
            log.error("quota store failing")
        if self.is_failing and not failing:
            log.info("quota store works again")
        self.is_failing = failing


def _is_refused(outcome: Any) -> bool:
    """Return whether a settlement must be repeated; a broken account would refuse it for ever."""
    return isinstance(outcome, QuotaRedisDown) and not isinstance(outcome, AccountBroken)


def _in_epoch(batch: Batch, operation: Operation, outcome: Any) -> Any:
    """Reject the answer of a Redis that had lost everything, or is still being rebuilt."""
    if not isinstance(operation, Reserve | ReadUsage):
        return outcome
    if operation.generation != batch.generation or (
        batch.is_rebuilding and operation.generation is not None
    ):
        return QuotaRedisDown("Redis does not know everything")
    return outcome
