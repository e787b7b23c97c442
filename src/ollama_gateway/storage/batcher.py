"""Many callers, one trip: items handed in while a batch runs make up the next batch.

A store without a Trio API (Redis, PostgreSQL, SQLite) must be called in a thread, and a thread
hop for each call is what it costs. So callers hand in an item and wait; one task gathers all that
is waiting, runs it as one batch (one pipeline, one COPY, one transaction) and wakes the callers.
Alone, an item waits for nobody; under load the batches grow and the cost of an item falls. This
is group commit.

The rules: one batch at a time, in order of arrival, so that what `run_batch` uses (a connection)
is never used twice at once. Whatever happens, a caller is woken: with its result, or with
`BatchFailed` where its batch raised or the batcher ended. A caller that is cancelled takes back an
item that was not gathered yet; of one that was, the batch runs and the result is dropped.

The runner decides where a batch runs: `in_thread`, or `in_place` under virtual time (Trio's
autojump clock takes a waiting thread for idle).

A thread has no cancel. So whoever is cancelled leaves it to itself, which is how an end with a
deadline has one when a disk hangs: threads do not keep the process alive (Trio's are daemons).
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
"""Seconds that what waits has when a batcher's block is left, and those to close what it used."""

_log = get_logger("batcher")


class BatchFailed(Exception):
    """The batch of this item raised (then that is the cause), or the batcher has ended.

    Whether the item took effect is not known.
    """


class BatcherFull(Exception):
    """Too many items wait already; this one was not taken."""


class Runner(Protocol):
    """Runs a function that may block, and returns what it returns."""

    async def __call__(self, work: Callable[[], R], /) -> R:
        """Run `work`, somewhere."""


async def in_thread(work: Callable[[], R], /) -> R:
    """Run in a worker thread. A caller that is cancelled leaves at once, and the work goes on.

    So it may still be at it when the next work comes: a store lets one thread in at a time. The
    limiter is of this call's own: a batcher makes one call at a time, and in the default limiter it
    would queue behind name look-ups.
    """
    return await anyio.to_thread.run_sync(
        work, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1)
    )


async def in_place(work: Callable[[], R], /) -> R:
    """Run right here, blocking the event loop: for virtual time."""
    return work()


async def close_in_time(close: Callable[[], None], runner: Runner) -> None:
    """Close what threads used, in one: in 5 s, or the end of the process does.

    To close a file is to write to a disk, which may hang. Not for what a thread still uses.
    """
    with anyio.move_on_after(CLOSING_SECONDS, shield=True):
        try:
            await runner(close)
        except Exception:  # noqa: BLE001 - the end of the process closes it
            _log.exception("not closed")


class _State(enum.Enum):
    OPEN = "open"  # items are taken, also before `run` has started
    CLOSING_SECONDS = "closing"  # what waits is finished, nothing new is taken
    CLOSED = "closed"


@attrs.define(eq=False)
class _Submission(Generic[T, R]):
    """An item whose caller waits; then holds a result (a list of one) or a failure."""

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
        max_waiting: items that may wait; one more is refused with `BatcherFull`.
        runner: where a batch runs.

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
        """Whether a batch was left to its thread, which may hang, and still uses its store."""
        self._state = _State.OPEN
        # A dict is an ordered set: a cancelled caller leaves from the middle in O(1).
        self._waiting: dict[_Submission[T, R], None] = {}
        self._has_work = anyio.Event()

    def __repr__(self) -> str:
        return f"<Batcher {self._state.value}, {len(self._waiting)} waiting>"

    async def submit(self, item: T) -> R:
        """Hand in an item and wait for its result.

        Raises:
            BatchFailed: its batch raised, or the batcher has ended.
            BatcherFull: `max_waiting` others wait already.

        """
        entry = self._take(item)
        try:
            await entry.woken.wait()
        finally:
            self._waiting.pop(entry, None)
        return entry.outcome()

    async def run(self) -> None:
        """Run batches until cancelled: the keeper's task, started once."""
        try:
            while self._waiting or self._state is _State.OPEN:
                await self._has_work.wait()
                if batch := self._gather():
                    await self._serve(batch)
        finally:
            self._close()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Batcher[T, R]]:
        """Run for the length of a block; what waits when the block is left is finished, within 5 s.

        Where the block is cancelled, so is what waits. An exception leaves as it is, in no group.
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
            raise BatcherFull(f"{self._max_waiting} items wait already")
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
        except Exception as error:  # noqa: BLE001 - every caller of the batch is given it
            for entry in batch:
                entry.cause = error
            self.has_left_work = False
        else:
            self.has_left_work = False
        finally:
            for entry in batch:
                entry.woken.set()

    def _results(self, items: Sequence[T]) -> Sequence[R]:
        """Run the batch where the runner put us."""
        results = self._run_batch(items)
        if len(results) != len(items):
            raise ValueError(f"{len(items)} items made {len(results)} results")
        return results

    def _finish(self) -> None:
        """Take nothing new and let `run` end when nothing waits."""
        if self._state is _State.OPEN:
            self._state = _State.CLOSING_SECONDS
        self._has_work.set()

    def _close(self) -> None:
        """Wake those whom no batch will serve."""
        self._state = _State.CLOSED
        for entry in self._waiting:
            entry.woken.set()
        self._waiting.clear()
