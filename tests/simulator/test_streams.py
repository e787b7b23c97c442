"""The pair of memory streams behaves like the two ends of a socket."""

from __future__ import annotations

import anyio
import pytest
import trio.testing

from ollama_gateway.simulator import Model, Simulator, memory_pair, memory_server
from tests.simulator.client import ask
from tests.simulator.ends import Lagging, pair_with

Clock = trio.testing.MockClock


async def test_a_client_that_has_everything_may_leave(
    autojump_clock: Clock,
) -> None:
    """A close while the last write is still returning is no early leaving."""
    simulator = Simulator([Model("m1")])
    client, server = pair_with(Lagging)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(simulator.serve_stream, server)
        await ask(client, "GET", "/api/version")
        await client.aclose()

    assert simulator.seen[0].gone_at is None
    assert simulator.seen[0].finished_at == simulator.seen[0].at + 1


async def test_bytes_come_in_order_and_in_any_size() -> None:
    """One end reads the bytes that the other sends, in any amounts."""
    one, other = memory_pair()
    async with one, other:
        await one.send(b"abcdef")
        assert await other.receive(2) == b"ab"
        assert await other.receive() == b"cdef"
        await other.send(b"back")
        assert await one.receive() == b"back"


async def test_a_writer_is_held_up_at_64_kib(
    autojump_clock: Clock,
) -> None:
    """A send beyond the bound waits for the reader."""
    one, other = memory_pair()
    async with one, other:
        await one.send(bytes(65_536))
        with anyio.move_on_after(1) as scope:
            await one.send(b"x")
        assert scope.cancelled_caught
        read = 0
        while read < 65_536:
            read += len(await other.receive())
        await one.send(b"y")
        assert await other.receive() == b"y"


async def test_a_close_is_an_end_to_the_other_side() -> None:
    """Bytes sent before a close can still be read; sending to a closed end fails."""
    one, other = memory_pair()
    async with other:
        await one.send(b"last")
        await one.aclose()
        assert await other.receive() == b"last"
        with pytest.raises(anyio.EndOfStream):
            await other.receive()
        with pytest.raises(anyio.BrokenResourceError):
            await other.send(b"x")
        with pytest.raises(anyio.ClosedResourceError):
            await one.receive()


async def test_a_half_close_leaves_the_other_way_open() -> None:
    """After one direction has ended the other still works."""
    one, other = memory_pair()
    async with one, other:
        await one.send_eof()
        with pytest.raises(anyio.EndOfStream):
            await other.receive()
        await other.send(b"still")
        assert await one.receive() == b"still"


async def test_an_abort_loses_what_was_not_read() -> None:
    """The other side gets a broken stream, even in place of bytes in transit."""
    one, other = memory_pair()
    async with other:
        await one.send(b"lost")
        await one.abort()
        with pytest.raises(anyio.BrokenResourceError):
            await other.receive()


async def test_a_server_in_memory_closes_what_it_gave_out() -> None:
    """After its block every stream is closed, even those that no test closed."""
    async with memory_server(Simulator([Model("m1")])) as connect:
        stream = await connect()

    with pytest.raises(anyio.ClosedResourceError):
        await stream.receive()
