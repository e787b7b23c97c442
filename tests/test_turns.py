"""Long work runs in turns, and other tasks get theirs."""

from __future__ import annotations

from collections.abc import Generator
from itertools import pairwise

import pytest
import trio

from ollama_gateway import turns
from ollama_gateway.turns import TURNS_OF_OTHERS, in_turns, run_through


def counting(steps: int, passes: list[int], seen: list[int]) -> Generator[None, None, int]:
    """Return work of some steps that notes the turn of the loop of each step."""
    for _ in range(steps):
        yield
        seen.append(passes[0])
    return steps


async def test_between_two_steps_of_any_work_others_have_their_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many bodies are read at once, together they take one of several turns."""
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.0)
    passes: list[int] = [0]
    seen: list[int] = []
    results: list[int] = []

    async def tick() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            passes[0] += 1

    async def work(steps: int) -> None:
        results.append(await in_turns(counting(steps, passes, seen)))

    async with trio.open_nursery() as ticking:
        ticking.start_soon(tick)
        async with trio.open_nursery() as nursery:
            for steps in (20, 20, 5):
                nursery.start_soon(work, steps)
        ticking.cancel_scope.cancel()

    assert sorted(results) == [5, 20, 20]
    assert min(after - before for before, after in pairwise(seen)) >= TURNS_OF_OTHERS - 1


async def test_work_of_one_step_does_not_wait() -> None:
    """A small body is read without a turn of the loop, whatever else is running."""
    passes: list[int] = [0]
    long = in_turns(counting(10**9, passes, []))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: long)
        await trio.lowlevel.checkpoint()
        with trio.CancelScope() as scope:
            scope.cancel()
            assert await in_turns(counting(0, passes, [])) == 0
        nursery.cancel_scope.cancel()


async def test_work_that_is_cancelled_leaves_the_turn_to_others() -> None:
    """Work that is cancelled in the middle does not keep the lock."""
    with trio.move_on_after(0):
        await in_turns(counting(10**9, [0], []))

    assert await in_turns(counting(3, [0], [])) == 3


def test_in_a_thread_it_is_the_same_work() -> None:
    """All steps run, one after the other."""
    assert run_through(counting(3, [0], [])) == 3
