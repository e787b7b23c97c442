"""Requests that begin a few at a time."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from ollama_gateway.server.turnstile import Turnstile

Clock = trio.testing.MockClock


async def test_those_who_come_together_pass_a_few_at_a_time_in_their_order(
    autojump_clock: Clock,
) -> None:
    """So the first ones have done their work before the last ones begin theirs."""
    turnstile, passed, turns = Turnstile(at_once=3), [], [0]

    async def request(number: int) -> None:
        await turnstile.pass_through()
        passed.append((number, turns[0]))

    async def count(nursery: trio.Nursery) -> None:
        while len(passed) < 12:
            await trio.lowlevel.checkpoint()
            turns[0] += 1
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count, nursery)
        for number in range(12):
            nursery.start_soon(request, number)

    in_a_turn = [sum(turn == which for _, turn in passed) for which in range(turns[0] + 1)]
    assert max(in_a_turn) <= 3
    assert sorted(number for number, _ in passed) == list(range(12))


async def test_who_waits_is_let_through_in_order(autojump_clock: Clock) -> None:
    """First come, first served."""
    turnstile, passed = Turnstile(at_once=1), []

    async def request(number: int) -> None:
        await turnstile.pass_through()
        passed.append(number)

    turnstile._passing = 1  # somebody is passing
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(request, number)
            await trio.testing.wait_all_tasks_blocked()
        assert passed == []
        turnstile._leave()
    assert passed == list(range(5))


@pytest.mark.parametrize("leaves_late", [False, True])
async def test_a_client_that_leaves_in_line_holds_up_nobody(
    autojump_clock: Clock, *, leaves_late: bool
) -> None:
    """Whether it had its place already, in the same instant, or not."""
    turnstile, passed = Turnstile(at_once=1), []

    async def request(number: int) -> None:
        await turnstile.pass_through()
        passed.append(number)

    turnstile._passing = 1
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as leaving:
            async with trio.open_nursery() as inner:
                inner.start_soon(request, 1)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(request, 2)
                await trio.testing.wait_all_tasks_blocked()
                if leaves_late:
                    turnstile._leave()
                leaving.cancel()
        if not leaves_late:
            turnstile._leave()
    assert passed == [2]
    assert turnstile._passing == 0
    assert not turnstile._queue
