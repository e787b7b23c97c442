"""The count of requests served at once excludes clients that left or have everything."""

from __future__ import annotations

import math
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio
import pytest
import trio.testing
from anyio.abc import ByteStream, SocketAttribute, SocketStream

from ollama_gateway.simulator import MemoryByteStream, Model, Simulator, memory_pair
from ollama_gateway.simulator.connection import _is_closed
from tests.simulator.client import ask, request
from tests.simulator.ends import Deaf, DeafSocket, Lagging, pair_with
from tests.support.patience import PATIENCE

Clock = trio.testing.MockClock
CHAT = {"model": "m1", "messages": [{"role": "user", "content": "hi"}]}
HANGING = request("POST", "/api/chat", CHAT)
LINGER = struct.pack("ii", 1, 0)
"""A close with this option is a reset."""


def hanging() -> Simulator:
    """A simulator whose answers never begin."""
    return Simulator([Model("m1", first_token=math.inf)])


async def close_socket(stream: SocketStream) -> None:
    """Close as a client does that has read everything."""
    await stream.aclose()


async def reset_socket(stream: SocketStream) -> None:
    """Close as a client does that has not read everything."""
    raw = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - no Django
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    await stream.aclose()


@asynccontextmanager
async def deaf_server(simulator: Simulator) -> AsyncIterator[int]:
    """Serve on real sockets whose closes no reader notices; yields the port."""

    async def serve(stream: ByteStream) -> None:
        await simulator.serve_stream(DeafSocket(stream))

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield listener.extra(SocketAttribute.local_port)  # noqa: S610 - no Django
        tasks.cancel_scope.cancel()


async def asked(port: int, simulator: Simulator) -> SocketStream:
    """Send a request over a new connection and wait until it is served."""
    before = simulator.figures.requests
    stream = await anyio.connect_tcp("127.0.0.1", port)
    await stream.send(HANGING)
    while simulator.figures.requests == before:
        await anyio.lowlevel.checkpoint()
    return stream


@pytest.mark.parametrize("leave", [close_socket, reset_socket])
async def test_a_socket_that_left_is_not_counted_with_a_newcomer(
    leave: Callable[[SocketStream], Awaitable[None]],
) -> None:
    """A close that no task has noticed yet is found on the socket itself."""
    simulator = hanging()
    with anyio.fail_after(PATIENCE):
        async with deaf_server(simulator) as port:
            await leave(await asked(port, simulator))
            async with await asked(port, simulator):
                now = simulator.in_flight

    assert (now, simulator.most_in_flight, simulator.figures.requests) == (1, 1, 2)
    assert simulator.seen[0].gone_at is None


async def test_sockets_that_wait_are_counted_together() -> None:
    """An open connection counts, whether it is silent or has sent its next request."""
    simulator = hanging()
    with anyio.fail_after(PATIENCE):
        async with (
            deaf_server(simulator) as port,
            await asked(port, simulator) as one,
            await asked(port, simulator),
        ):
            await one.send(HANGING)
            async with await asked(port, simulator):
                now = simulator.in_flight

    assert (now, simulator.most_in_flight) == (3, 3)


@pytest.mark.parametrize(
    "leave", [MemoryByteStream.aclose, MemoryByteStream.abort, MemoryByteStream.send_eof]
)
async def test_an_end_in_memory_that_left_is_not_counted_with_a_newcomer(
    leave: Callable[[MemoryByteStream], Awaitable[None]],
) -> None:
    """A close, a reset and a half-close are found even if nothing reads them."""
    simulator = hanging()
    clients = []
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            client, server = pair_with(Deaf)
            tasks.start_soon(simulator.serve_stream, server)
            await client.send(HANGING)
            await anyio.wait_all_tasks_blocked()
            most, now = simulator.most_in_flight, simulator.in_flight
            await leave(client)
            clients.append(client)
        tasks.cancel_scope.cancel()
    for client in clients:
        client.close()

    assert (now, most, simulator.in_flight) == (1, 1, 0)


async def test_an_answer_handed_over_is_not_counted(autojump_clock: Clock) -> None:
    """A client with the last byte may ask again at once, even if the first write still returns."""
    simulator = Simulator([Model("m1")])
    clients = []
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            client, server = pair_with(Lagging)
            tasks.start_soon(simulator.serve_stream, server)
            await ask(client, "POST", "/api/chat", CHAT | {"stream": False})
            clients.append(client)
        busy = [seen.finished_at for seen in simulator.seen]
        now = simulator.in_flight
        tasks.cancel_scope.cancel()
    for client in clients:
        client.close()

    assert busy == [None, None]
    assert (now, simulator.most_in_flight) == (0, 1)


async def test_unread_bytes_hide_a_close() -> None:
    """As on a socket, an end is found only after the bytes sent, and a reset at once."""
    one, other = memory_pair()
    async with one, other:
        looks = [other.is_peer_gone()]
        await one.send(b"ab")
        await one.send_eof()
        looks.append(other.is_peer_gone())
        await other.receive(1)
        looks.append(other.is_peer_gone())
        await other.receive()
        looks += [other.is_peer_gone(), one.is_peer_gone()]
        await other.abort()
        looks.append(one.is_peer_gone())

    assert looks == [False, False, False, True, False, True]


@contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a real connection; the second one never blocks, as on a server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    server.settimeout(0)
    with client, server:
        yield client, server


def test_a_look_at_a_socket_takes_nothing() -> None:
    """Silence and unread bytes are no close, and the bytes can still be read."""
    with connected() as (client, server):
        looks = [_is_closed(server)]
        client.send(b"xy")
        looks += [_is_closed(server), _is_closed(server)]
        read = server.recv(10)
        client.shutdown(socket.SHUT_WR)
        looks += [_is_closed(server), _is_closed(server)]

    assert looks == [False, False, False, True, True]
    assert read == b"xy"
    assert _is_closed(server)


def test_a_look_finds_a_reset() -> None:
    """A reset is found by the first look, which consumes its error, and by every later one."""
    with connected() as (client, server):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
        client.close()
        looks = [_is_closed(server), _is_closed(server)]

    assert looks == [True, True]
