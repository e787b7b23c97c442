from __future__ import annotations

import threading
from collections.abc import Sequence

import anyio
import anyio.lowlevel
import pytest
import trio.testing

from ollama_gateway.storage.batcher import (
    Batcher,
    BatcherFull,
    BatchFailed,
    Runner,
    in_place,
    in_thread,
)
from tests.support.runners import Slow


class Squares:
    """Squares numbers and remembers its batches; any batch with a negative one raises."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.running = 0

    def __call__(self, items: Sequence[int]) -> list[int]:
        """Run one batch."""
        self.running += 1
        assert self.running == 1
        self.batches.append(list(items))
        self.threads.add(threading.get_ident())
        try:
            if min(items) < 0:
                raise ValueError("a negative number")
            return [item * item for item in items]
        finally:
            self.running -= 1


async def gathered(batcher: Batcher[int, int], items: Sequence[int]) -> dict[int, object]:
    """Submit all at once; return each item's result, or the class of its error."""
    outcomes: dict[int, object] = {}

    async def one(item: int) -> None:
        try:
            outcomes[item] = await batcher.submit(item)
        except (BatchFailed, BatcherFull) as error:
            outcomes[item] = type(error)

    async with anyio.create_task_group() as tasks:
        for item in items:
            tasks.start_soon(one, item)
    return outcomes


@pytest.mark.parametrize("runner", [in_place, in_thread])
async def test_items_handed_in_together_are_one_batch(runner: Runner) -> None:
    """A thousand concurrent callers form one batch, and each gets its own result."""
    squares = Squares()
    async with Batcher(squares, runner=runner).opened() as batcher:
        assert await gathered(batcher, range(1000)) == {n: n * n for n in range(1000)}
    assert len(squares.batches) == 1


async def test_a_batch_has_a_size() -> None:
    """No batch is larger than `max_batch`, and none is smaller while more waits."""
    squares = Squares()
    async with Batcher(squares, max_batch=40, runner=in_place).opened() as batcher:
        await gathered(batcher, range(100))
    assert [len(batch) for batch in squares.batches] == [40, 40, 20]


async def test_what_arrives_meanwhile_is_the_next_batch(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Items that arrive while a batch runs form the next batch, in order of arrival."""
    squares = Squares()
    async with (
        Batcher(squares, runner=Slow(1)).opened() as batcher,
        anyio.create_task_group() as tasks,
    ):
        for item in range(4):
            tasks.start_soon(batcher.submit, item)
            await anyio.sleep(0.25)
    assert squares.batches == [[0], [1, 2, 3]]


async def test_a_single_item_waits_for_no_others(autojump_clock: trio.testing.MockClock) -> None:
    """A lone item runs at once: there is no gathering time."""
    async with Batcher(Squares(), runner=Slow(1)).opened() as batcher:
        assert await batcher.submit(3) == 9
    assert trio.current_time() == 1


async def test_batches_run_in_another_thread_one_at_a_time() -> None:
    """In production no batch blocks the event loop, and no two run at once."""
    squares = Squares()
    async with Batcher(squares, max_batch=1).opened() as batcher:
        await gathered(batcher, range(20))
    assert len(squares.batches) == 20
    assert threading.get_ident() not in squares.threads


async def test_a_batch_that_raises_fails_its_callers_only() -> None:
    """Every caller of the batch gets its own error with the cause; the next batch runs."""
    async with Batcher(Squares(), runner=in_place).opened() as batcher:
        assert await gathered(batcher, [1, -1, 2]) == dict.fromkeys([1, -1, 2], BatchFailed)
        with pytest.raises(BatchFailed) as caught:
            await batcher.submit(-1)
        assert isinstance(caught.value.__cause__, ValueError)
        assert await batcher.submit(5) == 25


async def test_a_batch_with_too_few_results_fails() -> None:
    """Results that cannot be assigned reach no caller."""

    def forgetful(items: Sequence[int]) -> Sequence[int]:
        return items[1:]

    async with Batcher(forgetful, runner=in_place).opened() as batcher:
        assert await gathered(batcher, [1, 2]) == {1: BatchFailed, 2: BatchFailed}


async def test_one_more_than_may_wait_is_refused() -> None:
    """Beyond `max_waiting` an item is refused at once, and the earlier ones are served."""
    squares = Squares()
    batcher = Batcher(squares, max_waiting=3, runner=in_place)
    async with anyio.create_task_group() as tasks:
        for item in range(3):
            tasks.start_soon(batcher.submit, item)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(BatcherFull):
            await batcher.submit(3)
        async with batcher.opened():
            pass
    assert sorted(squares.batches[0]) == [0, 1, 2]


async def test_a_cancelled_caller_takes_back_its_item(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A cancelled caller's item does not run if no batch has gathered it; its slot is free."""
    squares = Squares()
    async with (
        Batcher(squares, max_waiting=1, runner=Slow(1)).opened() as batcher,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(batcher.submit, 1)
        await anyio.sleep(0.5)
        with anyio.move_on_after(0.25) as scope:
            await batcher.submit(2)
        assert scope.cancelled_caught
        assert await batcher.submit(3) == 9
    assert squares.batches == [[1], [3]]


async def test_the_result_of_a_cancelled_caller_is_dropped(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A caller that leaves while its batch runs harms neither the batch nor the other callers."""
    squares = Squares()
    batcher = Batcher(squares, runner=Slow(1))
    results: list[int] = []

    async def patient() -> None:
        results.append(await batcher.submit(1))

    async def impatient() -> None:
        with anyio.move_on_after(0.5):
            results.append(await batcher.submit(2))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(patient)
        tasks.start_soon(impatient)
        await trio.testing.wait_all_tasks_blocked()
        async with batcher.opened():
            await anyio.sleep(0.75)
    assert results == [1]
    assert sorted(squares.batches[0]) == [1, 2]


async def test_leaving_the_block_finishes_what_waits(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Items submitted before the end of the block run; later ones are refused."""
    outcomes: dict[int, object] = {}

    async def one(batcher: Batcher[int, int], item: int) -> None:
        outcomes[item] = await batcher.submit(item)

    async with anyio.create_task_group() as tasks:
        async with Batcher(Squares(), max_batch=1, runner=Slow(1)).opened() as batcher:
            for item in range(3):
                tasks.start_soon(one, batcher, item)
            await trio.testing.wait_all_tasks_blocked()
        assert anyio.current_time() == 3
        with pytest.raises(BatchFailed):
            await batcher.submit(4)
    assert outcomes == {0: 0, 1: 1, 2: 4}


async def test_a_block_left_before_its_task_started_ends() -> None:
    """An empty block neither hangs nor leaves a batcher that takes items."""
    async with Batcher(Squares(), runner=in_place).opened() as batcher:
        pass
    with pytest.raises(BatchFailed):
        await batcher.submit(1)


async def test_a_cancelled_run_wakes_everybody(autojump_clock: trio.testing.MockClock) -> None:
    """Cancelling the service fails the running batch and all waiting callers; none hangs."""
    batcher = Batcher(Squares(), max_batch=1, runner=Slow(1))
    outcomes: dict[int, object] = {}

    async def submit_all() -> None:
        outcomes.update(await gathered(batcher, range(5)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(submit_all)
        with anyio.move_on_after(1.5):
            await batcher.run()
    assert len(outcomes) == 5
    assert list(outcomes.values()).count(BatchFailed) == 4


async def test_an_exception_leaves_the_block_as_it_is() -> None:
    """An exception of the block leaves it in no group."""
    with pytest.raises(KeyError, match="body"):
        async with Batcher(Squares(), runner=in_place).opened():
            raise KeyError("body")


async def test_callers_cancelled_at_random_moments_never_cross_results() -> None:
    """Every caller that is not cancelled gets its own result, whichever others leave."""
    squares = Squares()
    batcher = Batcher(squares, max_batch=7, runner=in_place)
    wrong: list[int] = []

    async def caller(item: int) -> None:
        with anyio.CancelScope() as scope:
            for turn in range(item % 5):
                await anyio.lowlevel.checkpoint()
                if turn == 3:
                    scope.cancel()
            if await batcher.submit(item) != item * item:
                wrong.append(item)

    async with batcher.opened(), anyio.create_task_group() as tasks:
        for item in range(200):
            tasks.start_soon(caller, item)
    assert wrong == []
    assert repr(batcher) == "<Batcher closed, 0 waiting>"
