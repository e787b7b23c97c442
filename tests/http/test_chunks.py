"""Chunked bodies are decoded when they are wanted, a part at a time, to the right end."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ollama_gateway.errors import BadRequest, HeadersTooLarge, RequestTimeout
from ollama_gateway.http.chunks import PART_BYTES, SHORT_BODY_BYTES, Chunks
from ollama_gateway.http.request_stream import MAX_WAITING_BYTES, RequestStream
from ollama_gateway.server.bodies import BODY_GRACE_SECONDS, BodyBudget, BodyShare
from ollama_gateway.server.downstream import ASGIDownstream

pytestmark = pytest.mark.virtual_time

TINY = b"1\r\nx\r\n"
END = b"0\r\n\r\n"
BAD_FRAMING = {
    "no size": b"2\r\nhi\r\nzz\r\n",
    "no end of a chunk": b"2\r\nhi0\r\n\r\n",
    "a bare LF": b"2\nhi\r\n0\r\n\r\n",
    "a bare LF at the end": b"2\r\nhi\r\n0\r\n\n\r\n",
    "a trailer that is none": b"2\r\nhi\r\n0\r\nnone\r\n\r\n",
    "hardly anything but framing": (b"%020x\r\nx\r\n" % 1) * 10_000,
}


def many(size: int = MAX_WAITING_BYTES) -> bytes:
    """Return chunks of one byte, at most `size` bytes in all."""
    return TINY * (size // len(TINY))


def request_stream_of(
    *data: bytes, turn: anyio.Lock | None = None, following: list[bytes] | None = None
) -> RequestStream:
    """Return the request stream of a chunked body of which these bytes have come."""
    request_stream = RequestStream(
        Chunks(turn or anyio.Lock(), ([] if following is None else following).append)
    )
    for part in data:
        request_stream.put(part)
    return request_stream


async def nowhere(_event: Any) -> None:
    """Discard the answer."""


def downstream(request_stream: RequestStream) -> ASGIDownstream:
    """Return the client side of a request with this body."""
    return ASGIDownstream(
        request_stream, nowhere, BodyShare(BodyBudget(2**20, 2**20)), None, None, []
    )


async def test_nothing_is_taken_apart_that_nobody_wants() -> None:
    """The end of a long unwanted body is not looked for, and later bytes are discarded."""
    following: list[bytes] = []
    request_stream = request_stream_of(many() + END, following=following)
    request_stream.drop()
    request_stream.put(END)

    assert following == []
    assert request_stream.is_empty
    with trio.fail_after(1):
        await request_stream.wait_for_room()


async def test_a_short_body_that_nobody_wants_has_its_end() -> None:
    """The end of a short unwanted body is found, so the next request can be read."""
    following: list[bytes] = []
    request_stream_of(many(SHORT_BODY_BYTES - 10) + END + b"GET", following=following).drop()
    request_stream_of(b"nothing of the kind\r\n", following=following).drop()

    assert following == [b"GET"]


async def test_the_chunks_of_a_read_are_joined() -> None:
    """Thousands of chunks arrive as a few events, in order; only the last says that it is last."""
    following: list[bytes] = []
    data = b"".join(b"1\r\n%c\r\n" % (n % 256) for n in range(10_000))
    request_stream = request_stream_of(data[:777], data[777:] + END + b"rest", following=following)
    body, events = b"", 0
    while True:
        event = await request_stream()
        body, events = body + event["body"], events + 1
        if not event["more_body"]:
            break

    assert body == bytes(n % 256 for n in range(10_000))
    assert events <= len(data) // PART_BYTES + 2
    assert following == [b"rest"]


@pytest.mark.parametrize("end", [END, b""], ids=["whole", "not whole"])
async def test_a_disconnect_comes_after_the_bytes_before_it(end: bytes) -> None:
    """Bytes that came before the disconnect can still be received; then only disconnects come."""
    request_stream = request_stream_of(b"2\r\nhi\r\n" + end)
    request_stream.close()
    first = await request_stream()

    assert (first["body"], first["more_body"]) == (b"hi", not end)
    assert [(await request_stream())["type"] for _ in range(2)] == ["http.disconnect"] * 2


@pytest.mark.parametrize("data", BAD_FRAMING.values(), ids=BAD_FRAMING.keys())
async def test_what_is_broken_is_refused_at_once(data: bytes) -> None:
    """Broken chunks are refused at once, without waiting for more bytes."""
    with pytest.raises(BadRequest):
        await downstream(request_stream_of(data)).body()

    assert trio.current_time() == 0


async def test_a_size_without_an_end_is_too_large() -> None:
    """A chunk size that does not end is too large, like a head that does not end."""
    with pytest.raises(HeadersTooLarge):
        await downstream(request_stream_of(b"5;" + b"x" * 100_000)).body()


@pytest.mark.parametrize("data", [b"5", b"5\r\n", b"5\r\nhello", b"5\r\nhello\r\n0\r\n", b"1;x"])
async def test_the_middle_of_a_chunk_has_a_deadline(data: bytes) -> None:
    """A client that stops in the middle of a chunk is timed out."""
    with pytest.raises(RequestTimeout):
        await downstream(request_stream_of(data)).body()

    assert BODY_GRACE_SECONDS <= trio.current_time() <= BODY_GRACE_SECONDS + 1


@pytest.mark.parametrize("framing", [b"1\r\nx\r\n", b"0000001\r\nx\r\n", b"1;a=bcd\r\nx\r\n"])
async def test_framing_does_not_count_toward_the_rate(framing: bytes) -> None:
    """A body in tiny chunks has the same deadline as without chunks, to the second."""

    async def refused_after(request_stream: RequestStream, part: bytes) -> float:
        async def sender() -> None:
            while True:
                await trio.sleep(0.5)
                request_stream.put(part)

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender)
            with pytest.raises(RequestTimeout):
                await downstream(request_stream).body()
            nursery.cancel_scope.cancel()
        return trio.current_time() - began

    plain = await refused_after(RequestStream(), b"x" * 250)
    chunked = await refused_after(request_stream_of(), framing * 250)

    assert abs(plain - chunked) < 1


async def test_bodies_of_many_chunks_take_turns() -> None:
    """In each turn of the event loop at most one part of one of them is decoded.

    The last bytes of each body are left out: they no longer count as many chunks.
    """
    turns, taken, turn = 0, [], anyio.Lock()

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async def take(request_stream: RequestStream) -> None:
        while not request_stream.is_empty:
            if (event := await request_stream())["more_body"]:
                taken.append((turns, len(event["body"])))

    async with trio.open_nursery() as counting:
        counting.start_soon(count)
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(take, request_stream_of(many() + END, turn=turn))
        counting.cancel_scope.cancel()

    # The counter may run before a part in one turn, and after it in the next.
    assert max(Counter(turn for turn, _ in taken).values()) <= 2
    assert max(size for _, size in taken) <= PART_BYTES // len(TINY) + 1
    assert len(taken) > 8 * (MAX_WAITING_BYTES // PART_BYTES - 1)


async def test_whoever_sends_tiny_chunks_is_hardly_ahead() -> None:
    """Waiting bytes are bounded as they came, framing included; receiving them makes room."""
    request_stream, sent = request_stream_of(), []

    async def sender() -> None:
        for number in range(6):
            sent.append(number)
            request_stream.put(many(MAX_WAITING_BYTES // 2))
            await request_stream.wait_for_room()
        request_stream.put(END)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender)
        await wait_all_tasks_blocked()
        assert sent == [0, 1, 2]
        assert len(await downstream(request_stream).body()) == 6 * (
            MAX_WAITING_BYTES // 2 // len(TINY)
        )


async def test_parts_of_one_byte_are_joined() -> None:
    """Tiny parts of a body with a length are joined: each would take sixty bytes of memory."""
    request_stream = RequestStream()
    for number in range(20_000):
        request_stream.put(b"%c" % (number % 256))
    request_stream.end()
    body, events = b"", 0
    while not request_stream.is_empty:
        body, events = body + (await request_stream())["body"], events + 1

    assert body == bytes(number % 256 for number in range(20_000))
    assert events <= 10
