"""A plain connection on real sockets: when it waits, and its errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
import trio
import trio.testing

from ollama_gateway.backends.plain import PlainStream
from tests.backends.misbehaving import Peer, Script, listening

LARGE = 8 * 1024 * 1024


@asynccontextmanager
async def connected(script: Script) -> AsyncIterator[PlainStream]:
    """Connect to a peer that follows a script."""
    async with (
        listening(script) as port,
        PlainStream(await anyio.connect_tcp("127.0.0.1", port)) as stream,
    ):
        yield stream


async def hears_all(peer: Peer) -> None:
    """Read to the end, then send the number of bytes."""
    await peer.hear_to_the_end()
    await peer.say(b"%d" % len(peer.heard))


async def test_more_than_the_kernel_takes_at_once_arrives_whole() -> None:
    """The remainder is sent as the kernel accepts it."""
    async with connected(hears_all) as stream:
        await stream.send(b"x" * LARGE)
        await stream.send_eof()
        assert await stream.receive() == b"%d" % LARGE
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()


async def resets(peer: Peer) -> None:
    """Reset the connection."""
    await peer.hear()
    peer.reset()


async def test_a_reset_is_a_broken_stream() -> None:
    """The reader gets an error, and the writer after it too."""
    async with connected(resets) as stream:
        await stream.send(b"x")
        with pytest.raises(anyio.BrokenResourceError):
            await stream.receive()
        with pytest.raises(anyio.BrokenResourceError):
            await stream.send(b"x")


async def test_who_waits_can_be_cancelled() -> None:
    """A read from a silent backend can be cancelled."""
    async with connected(hears_all) as stream:
        with trio.move_on_after(0.01) as scope:
            await stream.receive()
        assert scope.cancelled_caught


async def test_a_closed_one_writes_to_nobody() -> None:
    """Its descriptor may belong to another connection; a waiting reader gets an error."""
    async with connected(hears_all) as stream, trio.open_nursery() as nursery:

        async def read() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await stream.receive()

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        await stream.aclose()
        with pytest.raises(anyio.BrokenResourceError):
            await stream.send(b"x")
