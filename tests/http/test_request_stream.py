"""A body passed on part by part: its memory is bounded, and only the client has a deadline."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ollama_gateway.errors import RequestTimeout
from ollama_gateway.http.request_stream import MAX_WAITING_BYTES, RequestStream
from ollama_gateway.server.bodies import BODY_GRACE_SECONDS, BodyBudget, BodyShare
from ollama_gateway.server.downstream import ASGIDownstream

pytestmark = pytest.mark.virtual_time


async def put(request_stream: RequestStream, data: bytes) -> None:
    """Do as a connection does: hand on the bytes, and read on when there is room."""
    request_stream.put(data)
    await request_stream.wait_for_room()


async def nowhere(_event: Any) -> None:
    """Discard the answer."""


def downstream(request_stream: RequestStream) -> ASGIDownstream:
    """Return the client side of a request with this body."""
    return ASGIDownstream(request_stream, nowhere, BodyShare(BodyBudget(1, 1)), None, None, [])


async def taken(body: ASGIDownstream) -> None:
    """Read the whole body."""
    while await body.next_chunk():
        pass


async def test_the_sender_is_hardly_ahead_of_the_reader() -> None:
    """No more of the body waits than the request stream has room for."""
    request_stream, sent = RequestStream(), []

    async def sender() -> None:
        for number in range(6):
            sent.append(number)
            await put(request_stream, b"%d" % number * (MAX_WAITING_BYTES // 2))
        request_stream.end()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender)
        body = downstream(request_stream)
        for number in range(6):
            await wait_all_tasks_blocked()
            assert sent == list(range(min(number + 2, 6)))
            assert await body.next_chunk() == b"%d" % number * (MAX_WAITING_BYTES // 2)
        assert await body.next_chunk() == await body.next_chunk() == b""


async def test_an_empty_event_is_not_the_end() -> None:
    """An empty ASGI event in the middle of a body is not returned as its end."""
    request_stream = RequestStream()
    for data in (b"", b"x", b""):
        request_stream.put(data)
    request_stream.end()

    body = downstream(request_stream)
    assert [await body.next_chunk(), await body.next_chunk()] == [b"x", b""]


async def test_a_silent_client_is_refused() -> None:
    """A client that is silent for ten seconds is refused."""
    with pytest.raises(RequestTimeout) as caught:
        await downstream(RequestStream()).next_chunk()

    assert (caught.value.reason, trio.current_time()) == ("slow_body", BODY_GRACE_SECONDS)


async def test_a_slow_client_is_refused() -> None:
    """At 512 bytes a second the ten seconds are used up after twenty."""
    request_stream = RequestStream()

    async def sender() -> None:
        while True:
            await trio.sleep(1)
            await put(request_stream, b"x" * 512)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender)
        body = downstream(request_stream)
        with pytest.raises(RequestTimeout):
            await taken(body)
        nursery.cancel_scope.cancel()
    assert 18 <= trio.current_time() <= 20


async def test_a_slow_reader_costs_the_client_nothing() -> None:
    """The time that a backend takes for each part does not count against the client."""
    request_stream = RequestStream()

    async def sender() -> None:
        for _ in range(10):
            await put(request_stream, b"x" * MAX_WAITING_BYTES)
        request_stream.end()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender)
        body = downstream(request_stream)
        for _ in range(10):
            assert await body.next_chunk() == b"x" * MAX_WAITING_BYTES
            await trio.sleep(100)
    assert trio.current_time() == 1000


async def test_an_unwanted_body_is_discarded() -> None:
    """After an early answer the rest of the body is discarded without waiting."""
    request_stream = RequestStream()

    async def sender() -> None:
        for _ in range(1000):
            await put(request_stream, b"x" * MAX_WAITING_BYTES)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender)
        await wait_all_tasks_blocked()
        await downstream(request_stream).start(413, [])
    assert trio.current_time() == 0


@pytest.mark.parametrize("is_late", [False, True])
async def test_a_disconnect_is_reported_at_once(*, is_late: bool) -> None:
    """The callback runs at once, also if registered late; earlier bytes can still be received."""
    request_stream, reported = RequestStream(), []
    request_stream.put(b"x")
    if is_late:
        request_stream.close()
    request_stream.on_disconnect(lambda: reported.append("left"))
    request_stream.close()

    assert reported == ["left"]
    assert [(await request_stream())["type"] for _ in range(3)] == [
        "http.request",
        "http.disconnect",
        "http.disconnect",
    ]


async def test_nothing_is_sent_after_the_end_of_an_answer() -> None:
    """After the end of an answer nothing more is sent: the next answer may have begun."""
    sent: list[Any] = []

    async def send(event: Any) -> None:
        sent.append(event)

    answer = ASGIDownstream(RequestStream(), send, BodyShare(BodyBudget(1, 1)), None, None, [])
    await answer.start(200, [])
    await answer.send(b"part")
    await answer.end(b"last")
    await answer.send(b"error")
    assert [event.get("body") for event in sent] == [None, b"part", b"last"]
