"""A body that is passed on piece by piece: bounded memory, and a deadline for the client alone."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ollama_gateway.errors import RequestTimeout
from ollama_gateway.http.request_stream import ROOM, RequestStream
from ollama_gateway.server.bodies import GRACE, BodyBudget, Room
from ollama_gateway.server.downstream import ASGIDownstream


async def put(inbox: RequestStream, data: bytes) -> None:
    """What a connection does: it hands on what came, and reads on when there is room."""
    inbox.put(data)
    await inbox.room()


async def nowhere(_event: Any) -> None:
    """Where the answer would go."""


def downstream(inbox: RequestStream) -> ASGIDownstream:
    """The client's side of a request with this body."""
    return ASGIDownstream(inbox, nowhere, Room(BodyBudget(1, 1)), None, None, [])


async def taken(body: ASGIDownstream) -> None:
    """Take all of it."""
    while await body.next_chunk():
        pass


async def test_whoever_sends_is_hardly_ahead_of_whoever_takes(autojump_clock: MockClock) -> None:
    """Pieces arrive one by one, and no more of them wait than the inbox has room for."""
    inbox, sent = RequestStream(), []

    async def sender() -> None:
        for number in range(6):
            sent.append(number)
            await put(inbox, b"%d" % number * (ROOM // 2))
        inbox.end()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender)
        body = downstream(inbox)
        for number in range(6):
            await wait_all_tasks_blocked()
            assert sent == list(range(min(number + 2, 6)))
            assert await body.next_chunk() == b"%d" % number * (ROOM // 2)
        assert await body.next_chunk() == await body.next_chunk() == b""


async def test_an_empty_piece_is_not_the_end(autojump_clock: MockClock) -> None:
    """ASGI may bring an empty piece in the middle; the taker never sees it."""
    inbox = RequestStream()
    for data in (b"", b"x", b""):
        inbox.put(data)
    inbox.end()

    body = downstream(inbox)
    assert [await body.next_chunk(), await body.next_chunk()] == [b"x", b""]


async def test_a_silent_client_is_refused(autojump_clock: MockClock) -> None:
    """Ten seconds of silence are too many, as in any body."""
    with pytest.raises(RequestTimeout) as caught:
        await downstream(RequestStream()).next_chunk()

    assert (caught.value.reason, trio.current_time()) == ("slow_body", GRACE)


async def test_a_slow_client_is_refused(autojump_clock: MockClock) -> None:
    """512 bytes a second use the ten seconds up: half a second more is missing with each."""
    inbox = RequestStream()

    async def sender() -> None:
        while True:
            await trio.sleep(1)
            await put(inbox, b"x" * 512)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender)
        body = downstream(inbox)
        with pytest.raises(RequestTimeout):
            await taken(body)
        nursery.cancel_scope.cancel()
    assert 18 <= trio.current_time() <= 20


async def test_a_slow_taker_costs_the_client_nothing(autojump_clock: MockClock) -> None:
    """The time that the backend needs for a piece is not the client's."""
    inbox = RequestStream()

    async def sender() -> None:
        for _ in range(10):
            await put(inbox, b"x" * ROOM)
        inbox.end()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender)
        body = downstream(inbox)
        for _ in range(10):
            assert await body.next_chunk() == b"x" * ROOM
            await trio.sleep(100)
    assert trio.current_time() == 1000


async def test_what_nobody_wants_any_more_is_dropped(autojump_clock: MockClock) -> None:
    """After an early answer the sender is held up by nothing, also one that waits for room."""
    inbox = RequestStream()

    async def sender() -> None:
        for _ in range(1000):
            await put(inbox, b"x" * ROOM)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender)
        await wait_all_tasks_blocked()
        await downstream(inbox).start(413, [])
    assert trio.current_time() == 0


@pytest.mark.parametrize("is_late", [False, True])
async def test_a_client_that_leaves_is_told_of_at_once(
    autojump_clock: MockClock, *, is_late: bool
) -> None:
    """Whether that is asked for before or after it; what it had sent can still be taken."""
    inbox, told = RequestStream(), []
    inbox.put(b"x")
    if is_late:
        inbox.close()
    inbox.on_leaving(lambda: told.append("left"))
    inbox.close()

    assert told == ["left"]
    assert [(await inbox())["type"] for _ in range(3)] == [
        "http.request",
        "http.disconnect",
        "http.disconnect",
    ]


async def test_behind_its_end_an_answer_has_nothing() -> None:
    """What fails after it is told to nobody: the connection may have a next request's answer."""
    sent: list[Any] = []

    async def send(event: Any) -> None:
        sent.append(event)

    answer = ASGIDownstream(RequestStream(), send, Room(BodyBudget(1, 1)), None, None, [])
    await answer.start(200, [])
    await answer.send(b"part")
    await answer.end(b"last")
    await answer.send(b"error")
    assert [event.get("body") for event in sent] == [None, b"part", b"last"]
