"""The way to Redis: operations in batches, settlements until they are confirmed, its clock.

Callers hand in operations and one thread runs them, a batch at a time. A settlement is not handed
in but left here: it must not be lost, so it waits until Redis has confirmed it, and once more is
harmless. Settlements go first in every batch, so that what a client's last request gave back is
there for its next one.

Who answers after a failure may be a Redis that lost everything. So settlements wait until an answer
came from the epoch in which this process counts.
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
"""Settlements that wait for Redis; one more is left to its lease's end."""
SETTLEMENTS_A_BATCH: Final = 1000
CLOSING_SECONDS: Final = 5.0
"""Seconds at the end for settlements that Redis has not confirmed."""

log = get_logger("limits")


@attrs.frozen
class RedisState:
    """What the last answer said of Redis."""

    generation: str | None
    """`NAME:OPENS`; None where Redis has lost everything, or did not answer since."""
    is_rebuilding: bool
    """Whether some gateway was adding what it has spent."""
    time: float
    """Its clock, in seconds."""
    at: float
    """Our clock when the answer was there."""


class Pipeline:
    """Carries operations to Redis.

    Args:
        scripts: used by this object alone.
        runner: where blocking calls run.

    """

    def __init__(self, scripts: RedisScripts, runner: Runner) -> None:
        self.state: RedisState | None = None
        self.joined: str | None = None
        """The epoch in which this process counts."""
        self.is_failing = False
        self._scripts = scripts
        self._batcher = Batcher[Sequence[Operation], Sequence[Any]](self._run, runner=runner)
        self._settlements: deque[Settle] = deque()
        self._is_due = anyio.Event()
        self._must_retry = False

    @property
    def is_joined(self) -> bool:
        """Whether the last answer was of the epoch in which this process counts."""
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
        """Run for the length of a block; settlements are confirmed before it is left, or 5 s."""
        with closing(self._scripts):
            async with self._batcher.opened():
                try:
                    async with running(self._confirm_always):
                        yield
                finally:
                    with anyio.move_on_after(CLOSING_SECONDS, shield=True):
                        await self._confirm()

    async def submit(self, *operations: Operation) -> Sequence[Any]:
        """What the operations read, or RedisDown for one that was refused.

        Without operations this asks for the epoch and the time alone. Raises RedisDown where
        nothing can be said of any.
        """
        try:
            return await self._batcher.submit(operations)
        except (BatchFailed, BatcherFull) as error:
            self.note(failing=True)
            raise QuotaRedisDown("Redis does not answer") from error

    async def ask(self, operation: Operation) -> Any:
        """What one operation reads; raises RedisDown."""
        (outcome,) = await self.submit(operation)
        if isinstance(outcome, QuotaRedisDown):
            raise outcome
        return outcome

    def settle(self, settlement: Settle) -> None:
        """Hand in a settlement; it takes effect before whatever is submitted later."""
        if len(self._settlements) < MAX_SETTLEMENTS:
            self._settlements.append(settlement)
        self._is_due.set()

    def charge_nothing(self) -> None:
        """What waits was charged elsewhere; it still gives back what it held."""
        self._settlements = deque(
            attrs.evolve(waiting, used=0, is_carried=False) for waiting in self._settlements
        )

    def redis_time(self) -> float:
        """What Redis's clock says now, or a little less; 0 before the first answer."""
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
        """One batch, in the batcher's thread."""
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
                self._settlements.append(settlement)  # where it holds up no others
        return [[_in_epoch(batch, op, next(outcomes)) for op in item] for item in items]

    def _due(self) -> Sequence[Settle]:
        """The settlements of the next batch; they go on waiting until it is confirmed."""
        if not self.is_joined:
            self._must_retry = True
            return []
        count = min(len(self._settlements), SETTLEMENTS_A_BATCH)
        return [self._settlements[i] for i in range(count)]

    def note(self, *, failing: bool) -> None:
        """Note whether Redis works; logged at its turns only: it fails for every request."""
        if failing and not self.is_failing:
            log.error("quota store failing")
        if self.is_failing and not failing:
            log.info("quota store works again")
        self.is_failing = failing


def _is_refused(outcome: Any) -> bool:
    """Whether a settlement must be said again; of a broken account it would be refused for ever."""
    return isinstance(outcome, QuotaRedisDown) and not isinstance(outcome, AccountBroken)


def _in_epoch(batch: Batch, operation: Operation, outcome: Any) -> Any:
    """What a Redis said that had lost everything, or is still being filled, does not count."""
    if not isinstance(operation, Reserve | ReadUsage):
        return outcome
    if operation.generation != batch.generation or (
        batch.is_rebuilding and operation.generation is not None
    ):
        return QuotaRedisDown("Redis does not know everything")
    return outcome
