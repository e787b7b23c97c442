"""Group commit: items submitted while one batch runs form the next batch.

A store without a Trio API (Redis, PostgreSQL, SQLite) must be called in a thread, and the thread
hop costs more than the call. So callers submit an item and wait; one task gathers all waiting
items, runs them as one batch (one pipeline, one COPY, one transaction) and wakes the callers. A
lone item runs at once; under load the batches grow and each item costs less.

The rules: one batch runs at a time, in order of arrival, so `run_batch` never uses a connection
twice at once. Every caller is woken, whatever happens: with its result, or with `BatchFailed` if
its batch raised or the batcher ended. A cancelled caller withdraws its item if no batch has
gathered it yet; otherwise the batch runs and its result is dropped.

The runner decides where a batch runs: `in_thread`, or `in_place` under virtual time (Trio's
autojump clock takes a waiting thread for idle).

A thread cannot be cancelled, so a cancelled task abandons its thread. That keeps the deadline of a
shutdown when a disk hangs: Trio's threads are daemons and do not keep the process alive.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, Generic, Protocol, TypeVar

import anyio
import anyio.to_thread
import attrs

from ollama_gateway.log import get_logger

T = TypeVar("T")
R = TypeVar("R")

CLOSING_SECONDS: Final = 5.0
"""Seconds at shutdown to run waiting items, and again to close the store they used."""

_log = get_logger("batcher")


class BatchFailed(Exception):
    """The item's batch raised (its error is the cause), or the batcher has ended.

    The item may or may not have taken effect.
    """


class BatcherFull(Exception):
    """Too many items are waiting; this one was rejected."""


class Runner(Protocol):
    """Runs a function that may block, and returns its result."""

    async def __call__(self, work: Callable[[], R], /) -> R:
        """Run `work`."""


async def in_thread(work: Callable[[], R], /) -> R:
    """Run in a worker thread. A cancelled caller leaves at once, and the thread goes on.

    The thread may still be running when the next call comes, so stores admit one thread at a time.
    Each call brings its own limiter: a batcher makes one call at a time, and in the default limiter
    that call would queue behind name look-ups.
    """
    return await anyio.to_thread.run_sync(
        work, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1)
    )


async def in_place(work: Callable[[], R], /) -> R:
    """Run in place, blocking the event loop: for virtual time."""
    return work()


async def close_in_time(close: Callable[[], None], runner: Runner) -> None:
    """Close a store through the runner, within 5 s; after that the process's end closes it.

    Closing a file writes to a disk, which may hang. Do not close what a thread still uses.
    """
    with anyio.move_on_after(CLOSING_SECONDS, shield=True):
        await close_quietly(close, runner)


async def close_quietly(close: Callable[[], None], runner: Runner) -> None:
    """Close a store through the runner; log an error, since the process's end closes it too."""
    try:
        await runner(close)
    except Exception:  # noqa: BLE001 - the process's end closes it
        _log.exception("not closed")


class _State(enum.Enum):
    OPEN = "open"  # accepts items, even before `run` starts
    CLOSING = "closing"  # runs the waiting items, accepts no more
    CLOSED = "closed"


@attrs.define(eq=False)
class _Submission(Generic[T, R]):
    """An item whose caller waits; later its result (a list of one) or its failure."""

    item: T
    woken: anyio.Event = attrs.field(factory=anyio.Event)
    result: list[R] = attrs.field(factory=list)
    cause: Exception | None = None

    def outcome(self) -> R:
        if not self.result:
            raise BatchFailed("the batch of this item did not complete") from self.cause
        return self.result[0]


class Batcher(Generic[T, R]):
    """Gathers items and runs them through `run_batch`, at most `max_batch` at a time.

    Args:
        run_batch: takes the items, in order, and returns one result for each; may block.
        max_batch: items in one batch.
        max_waiting: items that may wait; beyond that, `submit` raises `BatcherFull`.
        runner: runs a batch.

    """

    def __init__(
        self,
        run_batch: Callable[[Sequence[T]], Sequence[R]],
        *,
        max_batch: int = 1000,
        max_waiting: int = 10_000,
        runner: Runner = in_thread,
    ) -> None:
        self._run_batch = run_batch
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._runner = runner
        self.has_left_work = False
        """Whether an abandoned thread may still use the store."""
        self._state = _State.OPEN
        # A dict is an ordered set: a cancelled caller leaves from the middle in O(1).
        self._waiting: dict[_Submission[T, R], None] = {}
        self._has_work = anyio.Event()

    def __repr__(self) -> str:
        return f"<Batcher {self._state.value}, {len(self._waiting)} waiting>"

    async def submit(self, item: T) -> R:
        """Submit an item and wait for its result.

        Raises:
            BatchFailed: its batch raised, or the batcher has ended.
            BatcherFull: `max_waiting` items are waiting.

        """
        entry = self._take(item)
        try:
            await entry.woken.wait()
        finally:
            self._waiting.pop(entry, None)
        return entry.outcome()

    async def run(self) -> None:
        """Run batches until cancelled; start this service once."""
        try:
            while self._waiting or self._state is _State.OPEN:
                await self._has_work.wait()
                if batch := self._gather():
                    await self._serve(batch)
        finally:
            self._close()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Batcher[T, R]]:
        """Run for the length of a block; at its end, run the waiting items within 5 s.

        If the block is cancelled, so are they. An exception leaves unchanged, in no group.
        """
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.run)
            try:
                yield self
            except Exception as error:  # noqa: BLE001 - raised below, outside of the task group
                failure = error
            self._finish()
            tasks.cancel_scope.deadline = anyio.current_time() + CLOSING_SECONDS
        if failure is not None:
            raise failure

    def _take(self, item: T) -> _Submission[T, R]:
        if self._state is not _State.OPEN:
            raise BatchFailed("the batcher has ended")
        if len(self._waiting) >= self._max_waiting:
            raise BatcherFull(f"{self._max_waiting} items are waiting")
        entry: _Submission[T, R] = _Submission(item)  # subscripting it here would cost 5 us
        self._waiting[entry] = None
        self._has_work.set()
        return entry

    def _gather(self) -> list[_Submission[T, R]]:
        batch = list(itertools.islice(self._waiting, self._max_batch))
        for entry in batch:
            del self._waiting[entry]
        if not self._waiting and self._state is _State.OPEN:
            self._has_work = anyio.Event()
        return batch

    async def _serve(self, batch: list[_Submission[T, R]]) -> None:
        items = [entry.item for entry in batch]
        self.has_left_work = True
        try:
            results = await self._runner(lambda: self._results(items))
            for entry, result in zip(batch, results, strict=True):
                entry.result.append(result)
        except Exception as error:  # noqa: BLE001 - every caller of the batch gets it
            for entry in batch:
                entry.cause = error
            self.has_left_work = False
        else:
            self.has_left_work = False
        finally:
            for entry in batch:
                entry.woken.set()

    def _results(self, items: Sequence[T]) -> Sequence[R]:
        """Run the batch and check that each item has a result."""
        results = self._run_batch(items)
        if len(results) != len(items):
            raise ValueError(f"{len(items)} items made {len(results)} results")
        return results

    def _finish(self) -> None:
        """Accept no more items; `run` ends once nothing waits."""
        if self._state is _State.OPEN:
            self._state = _State.CLOSING
        self._has_work.set()

    def _close(self) -> None:
        """Wake the callers that no batch will serve."""
        self._state = _State.CLOSED
        for entry in self._waiting:
            entry.woken.set()
        self._waiting.clear()
