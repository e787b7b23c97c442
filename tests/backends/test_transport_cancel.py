from __future__ import annotations

import itertools
import random
import ssl
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

import anyio
import attrs
import httpx
import pytest
import trio
import trio.testing
from anyio.abc import ByteStream

from ollama_gateway.backends.transport import Transport
from tests.backends.asking import CHUNKED, MIB, OK, chunk, fetch, is_cancelled_at, post
from tests.backends.misbehaving import (
    Peer,
    answers,
    answers_and_stays,
    never_reads,
    refuses_early,
    talking_to,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from trio.testing import MockClock

STREAM = (CHUNKED + chunk(b"a"), chunk(b"b"), chunk(b"c"), b"0\r\n\r\n")
REFUSAL = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"


@pytest.mark.parametrize(
    ("script", "size"),
    [
        pytest.param(answers(*STREAM), 13, id="stream"),
        pytest.param(answers_and_stays(*STREAM), 13, id="stream, not closed"),
        pytest.param(answers(*STREAM), MIB // 2, id="upload"),
        pytest.param(refuses_early(REFUSAL), MIB // 2, id="refused upload"),
        pytest.param(answers(*(bytes([byte]) for byte in REFUSAL)), 13, id="drip"),
    ],
)
async def test_cancelled_at_every_step(
    autojump_clock: MockClock, script: Callable[[Peer], Awaitable[None]], size: int
) -> None:
    """A cancellation at any step leaves no connection counted, and the backend sees its end."""
    for step in itertools.count(1):
        async with talking_to(script) as (transport, backend):
            cancelled = await is_cancelled_at(step, transport, post(b"x" * size))
            assert transport.open_connections == 0
            assert all(peer.gone.is_set() for peer in backend.peers)
        if not cancelled:
            break

    assert step > 10


async def test_closed_in_the_middle(autojump_clock: MockClock) -> None:
    """A response closed early, even twice, closes its connection and drops its bytes at once."""
    async with talking_to(answers_and_stays(*STREAM, every=1)) as (transport, _):
        response = await transport.handle_async_request(post())
        async with aclosing(cast("AsyncGenerator[bytes, None]", response.aiter_raw())) as body:
            assert await anext(body) == b"a"
        assert transport.open_connections == 1
        before = trio.current_time()
        await response.aclose()
        assert transport.open_connections == 0
        await response.stream.aclose()  # type: ignore[union-attr]
        assert trio.current_time() == before
        with pytest.raises(httpx.ReadError):
            await anext(aiter(response.stream))  # type: ignore[arg-type]


async def test_closed_with_the_last_bytes(autojump_clock: MockClock) -> None:
    """The connection is released with the last chunk, before the reader asks for more."""
    script = answers_and_stays(CHUNKED, chunk(b"a") + b"0\r\n\r\n")
    async with talking_to(script) as (transport, _):
        response = await transport.handle_async_request(post())
        assert await anext(aiter(response.stream)) == b"a"  # type: ignore[arg-type]
        assert transport.open_connections == 0


@attrs.define(eq=False)
class Stubborn(ByteStream):
    """A stream that waits for its peer when it closes, as TLS does, or raises."""

    stream: ByteStream
    end: Callable[[], Awaitable[None]]

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Read from the stream below."""
        return await self.stream.receive(max_bytes)

    async def send(self, item: bytes) -> None:
        """Write to the stream below."""
        await self.stream.send(item)

    async def send_eof(self) -> None:
        """Half-close the stream below."""
        await self.stream.send_eof()

    async def aclose(self) -> None:
        """Close slowly or with an error, but close the stream below."""
        try:
            await self.end()
        finally:
            with anyio.move_on_after(1, shield=True):  # or its Cancelled would hide the error
                await self.stream.aclose()


async def complain() -> None:
    """Raise as OpenSSL does when the peer has sent more than it should."""
    raise ssl.SSLError(1, "application data after close notify")


@pytest.mark.parametrize("end", [trio.sleep_forever, complain])
async def test_closing_is_forced(
    autojump_clock: MockClock, end: Callable[[], Awaitable[None]]
) -> None:
    """A stream that does not close cleanly delays no answer and breaks none."""
    async with talking_to(answers_and_stays(*STREAM)) as (_, backend):

        async def connect() -> ByteStream:
            return Stubborn(await backend.connect(), end)

        transport = Transport(connect)
        assert await fetch(transport, post()) == (200, [b"a", b"b", b"c"])
        assert transport.open_connections == 0
        assert autojump_clock.current_time() == 0


async def test_closed_in_a_cancelled_scope(autojump_clock: MockClock) -> None:
    """Closing works in a cancelled scope."""
    async with talking_to(answers_and_stays(*STREAM)) as (transport, backend):
        response = await transport.handle_async_request(post())
        with trio.CancelScope() as scope:
            scope.cancel()
            await response.aclose()

        assert transport.open_connections == 0
        assert backend.peers[0].gone.is_set()


async def test_closed_while_another_task_reads(autojump_clock: MockClock) -> None:
    """A reader whose response is closed meanwhile gets an error of httpx."""
    async with talking_to(answers_and_stays(OK + b"\r\n")) as (transport, _):
        response = await transport.handle_async_request(post())

        async def read() -> None:
            with pytest.raises(httpx.ReadError):
                await anext(aiter(response.stream))  # type: ignore[arg-type]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            await response.aclose()


@pytest.mark.parametrize("seed", range(100))
async def test_many_at_once_with_random_deadlines(autojump_clock: MockClock, seed: int) -> None:
    """Twenty requests of all kinds, each with its own deadline, leave nothing open."""
    dice = random.Random(seed)  # noqa: S311 - a seed, no secret
    scripts = [
        answers(*STREAM),
        answers_and_stays(*STREAM, every=1),
        answers(OK + b"Content-Length: 5\r\n\r\nhi"),
        refuses_early(REFUSAL),
        refuses_early(),
        never_reads,
    ]

    async def play_one(peer: Peer) -> None:
        await trio.sleep(dice.uniform(0, 3))
        await dice.choice(scripts)(peer)

    async def ask() -> None:
        await trio.sleep(dice.uniform(0, 2))
        with trio.move_on_after(dice.uniform(0, 8)):
            try:
                await fetch(transport, post(b"x" * dice.choice([13, 100_000])))
            except httpx.TransportError:
                return  # another test shows its error

    async with talking_to(play_one) as (transport, backend):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask)
        assert transport.open_connections == 0
        assert all(peer.gone.is_set() for peer in backend.peers)
