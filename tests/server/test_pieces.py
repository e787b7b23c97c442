"""The hand-over of a body that is passed on: one piece in memory, a deadline for the client."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ollama_gateway.errors import RequestTimeout
from ollama_gateway.server.bodies import GRACE
from ollama_gateway.server.pieces import Pieces


async def take_all(pieces: Pieces) -> None:
    """Take until the end."""
    while await pieces.take():
        pass


async def test_the_next_piece_waits_until_this_one_was_taken(autojump_clock: MockClock) -> None:
    """Whoever sends is as fast as whoever takes, and no piece is lost or joined."""
    pieces, put = Pieces(), []

    async def sender() -> None:
        for number in range(3):
            await pieces.put(b"%d" % number)
            put.append(number)
        pieces.end()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender)
        for number in range(3):
            await wait_all_tasks_blocked()
            assert put == list(range(number))
            assert await pieces.take() == b"%d" % number
        assert await pieces.take() == await pieces.take() == b""


async def test_an_empty_piece_is_not_the_end(autojump_clock: MockClock) -> None:
    """ASGI may bring an empty piece in the middle; the taker never sees it."""
    pieces = Pieces()

    async def sender() -> None:
        await pieces.put(b"")
        await pieces.put(b"x")
        pieces.end()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender)
        assert [await pieces.take(), await pieces.take()] == [b"x", b""]


async def test_a_silent_client_is_refused(autojump_clock: MockClock) -> None:
    """Ten seconds of silence are too many, as in any body."""
    pieces = Pieces()
    with pytest.raises(RequestTimeout) as caught:
        await pieces.take()

    assert (caught.value.reason, trio.current_time()) == ("slow_body", GRACE)


async def test_a_slow_client_is_refused(autojump_clock: MockClock) -> None:
    """512 bytes a second use the ten seconds up: half a second more is missing with each."""
    pieces = Pieces()

    async def sender() -> None:
        while True:
            await trio.sleep(1)
            await pieces.put(b"x" * 512)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender)
        with pytest.raises(RequestTimeout):
            await take_all(pieces)
        nursery.cancel_scope.cancel()
    assert 18 <= trio.current_time() <= 20


async def test_a_slow_taker_costs_the_client_nothing(autojump_clock: MockClock) -> None:
    """The time that the backend needs for a piece is not the client's."""
    pieces = Pieces()

    async def sender() -> None:
        for _ in range(10):
            await pieces.put(b"x")
        pieces.end()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender)
        for _ in range(10):
            assert await pieces.take() == b"x"
            await trio.sleep(100)
    assert trio.current_time() == 1000


async def test_what_nobody_wants_any_more_is_dropped(autojump_clock: MockClock) -> None:
    """After an early answer the sender is held up by nothing."""
    pieces = Pieces()

    async def sender() -> None:
        for _ in range(1000):
            await pieces.put(b"x" * 1000)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender)
        await wait_all_tasks_blocked()
        pieces.end()
    assert trio.current_time() == 0
