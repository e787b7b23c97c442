"""Requests start a few at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio
import trio.testing

from ollama_gateway.server.pacer import StartPacer

pytestmark = pytest.mark.virtual_time


class Turns(trio.abc.Instrument):
    """Counts the turns of the event loop."""

    def __init__(self) -> None:
        self.number = 0

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - Trio's signature
        """Count a turn, which begins with this call."""
        self.number += 1


@pytest.fixture
async def turns() -> AsyncIterator[Turns]:
    """Count turns for the length of the test."""
    found = Turns()
    trio.lowlevel.add_instrument(found)
    yield found
    trio.lowlevel.remove_instrument(found)


async def test_requests_that_arrive_together_start_a_few_at_a_time(turns: Turns) -> None:
    """Requests that arrive together start a few in each turn."""
    pacer, passed = StartPacer(starts_per_turn=3), []

    async def request(number: int) -> None:
        await pacer.wait_to_start()
        passed.append((number, turns.number))

    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(request, number)

    assert max(Counter(turn for _, turn in passed).values()) == 3
    assert sorted(number for number, _ in passed) == list(range(12))


async def test_waiting_requests_start_in_order() -> None:
    """Waiting requests start in the order of their arrival."""
    pacer, passed = StartPacer(starts_per_turn=1), []

    async def request(number: int) -> None:
        await pacer.wait_to_start()
        passed.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            await nursery.start(_begun, request, number)
    assert passed == list(range(5))


async def _begun(
    request: Callable[[int], Awaitable[None]],
    number: int,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    task_status.started()
    await request(number)


async def test_few_hardly_wait(turns: Turns) -> None:
    """Of requests that come one after the other, only every third or so waits for a turn."""
    pacer, waited = StartPacer(starts_per_turn=3), []
    for _ in range(39):
        began = turns.number
        await pacer.wait_to_start()
        waited.append(turns.number - began)
    assert Counter(waited) == {0: 27, 1: 12}


@pytest.mark.parametrize("number", range(7))
async def test_a_client_that_leaves_in_line_delays_no_other(number: int) -> None:
    """A cancelled request delays no other, also if it had to open the next turn."""
    pacer, passed, leaving = StartPacer(starts_per_turn=2), set(), trio.CancelScope()

    async def request(which: int) -> None:
        with leaving if which == number else trio.CancelScope():
            await pacer.wait_to_start()
            passed.add(which)

    async with trio.open_nursery() as nursery:
        for which in range(7):
            nursery.start_soon(request, which)
        await trio.lowlevel.checkpoint()
        leaving.cancel()
    assert passed >= set(range(7)) - {number}
    assert not pacer._is_opened_next
    assert not pacer._starting


async def test_streams_that_wait_go_on_a_few_at_a_time(turns: Turns) -> None:
    """Streams go on a few a turn while requests wait, and also once the last one has started."""
    pacer, went = StartPacer(starts_per_turn=1, running_per_turn=2), []

    async def stream() -> None:
        await pacer.give_way()
        went.append((turns.number, bool(pacer._starting)))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(pacer.wait_to_start)
        await trio.lowlevel.checkpoint()
        for _ in range(20):
            nursery.start_soon(stream)
    assert max(Counter(turn for turn, _ in went).values()) == 2
    assert Counter(others_wait for _, others_wait in went)[False] > 2
    assert len(went) == 20
    assert not pacer._running
    assert not pacer._is_opened_next


@pytest.mark.parametrize("turn", range(8))
@pytest.mark.parametrize("number", range(6))
async def test_a_stream_that_ends_holds_up_no_other(number: int, turn: int) -> None:
    """A stream that is cancelled while it gives way delays no other, also if it opens a turn."""
    pacer, went, leaving = (
        StartPacer(starts_per_turn=1, running_per_turn=1),
        set(),
        trio.CancelScope(),
    )

    async def stream(which: int) -> None:
        with leaving if which == number else trio.CancelScope():
            await pacer.give_way()
            went.add(which)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(pacer.wait_to_start)
        await trio.lowlevel.checkpoint()
        for which in range(6):
            nursery.start_soon(stream, which)
        for _ in range(turn):
            await trio.lowlevel.checkpoint()
        leaving.cancel()
    assert went >= set(range(6)) - {number}
    assert not pacer._running
    assert not pacer._is_opened_next


async def test_a_stream_does_not_wait_if_no_request_waits() -> None:
    """If no request waits, a stream does not even take a turn."""
    pacer = StartPacer()
    with trio.CancelScope() as scope:
        scope.cancel()  # any wait would be cancelled here
        await pacer.give_way()
        await pacer.wait_to_start()
    assert not scope.cancelled_caught
