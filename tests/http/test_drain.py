"""A drain serves every client that has connected, and closes idle connections at once."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from ollama_gateway.http.binding import AddressTaken, bind
from tests.http.serving import (
    PLAIN_REQUEST,
    Peer,
    Receive,
    Send,
    read_to_end,
    read_until,
    respond,
    serving,
)
from tests.support.patience import PATIENCE, until

GET = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"


@attrs.define(eq=False)
class Streaming:
    """An application that sends one chunk, and ends its answer when `may_end` is set."""

    may_end: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def __call__(self, _scope: Any, _receive: Receive, send: Send) -> None:
        """Serve one request."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await self.may_end.wait()
        await send({"type": "http.response.body", "body": b"ended"})


async def test_a_drain_of_nothing_ends_at_once(peer: Peer) -> None:
    """Without connections `serve()` returns, and the port is free again."""
    peer.listener.drain(1000)
    await peer.has_ended.wait()
    for sock in bind("127.0.0.1", peer.port):
        sock.close()


async def test_what_waits_in_the_backlog_is_served(peer: Peer) -> None:
    """Requests in the backlog when the drain begins are answered."""
    clients = [_connect_unseen(peer.port) for _ in range(20)]
    for client in clients:
        client.sendall(GET)
    assert not peer.listener.connections
    peer.listener.drain(1000)
    answers = [await _read(client) for client in clients]
    await peer.has_ended.wait()
    assert all(answer.endswith(b"\r\n\r\nhello") for answer in answers)
    assert all(b"connection: close" in answer.lower() for answer in answers)


async def test_a_silent_client_of_the_backlog_has_a_second(peer: Peer) -> None:
    """A silent client from the backlog delays the drain by a second, not by the head timeout."""
    clients = [_connect_unseen(peer.port) for _ in range(20)]
    peer.listener.drain(1000)
    with trio.fail_after(PATIENCE):
        await peer.has_ended.wait()
    for client in clients:
        client.close()


def _connect_unseen(port: int) -> socket.socket:
    """Connect without giving the listener a turn to accept."""
    return socket.create_connection(("127.0.0.1", port))


async def _read(client: socket.socket) -> bytes:
    client.setblocking(False)  # noqa: FBT003 - the standard library's signature
    async with trio.SocketStream(trio.socket.from_stdlib_socket(client)) as stream:
        return await read_to_end(stream)


async def test_idle_connections_are_closed(peer: Peer) -> None:
    """An idle kept-alive connection is closed and does not delay the drain."""
    async with await peer.connect() as stream:
        await stream.send_all(GET)
        answer = await read_until(stream, b"hello")
        assert b"connection: close" not in answer.lower()
        await until(lambda: all(c.http.is_between_requests for c in peer.listener.connections))
        peer.listener.drain(1000)
        assert await read_to_end(stream) == b""
    await peer.has_ended.wait()


async def test_a_streaming_answer_finishes() -> None:
    """An answer under way is finished, then its connection closes, then `serve()` returns."""
    app = Streaming()
    async with serving(app) as peer:
        async with await peer.connect() as stream:
            await stream.send_all(GET)
            answer = await stream.receive_some(65536)
            peer.listener.drain(1000)
            await trio.testing.wait_all_tasks_blocked()
            assert not peer.has_ended.is_set()
            app.may_end.set()
            answer += await read_to_end(stream)
        assert answer.endswith(b"5\r\nended\r\n0\r\n\r\n")
        await peer.has_ended.wait()


async def test_the_last_answer_announces_the_end() -> None:
    """A request that is pending when the drain begins is answered with one `Connection: close`."""
    may_answer = trio.Event()

    async def app(_scope: Any, _receive: Receive, send: Send) -> None:
        await may_answer.wait()
        await respond(send)

    async with serving(app) as peer:
        async with await peer.connect() as stream:
            await stream.send_all(GET)
            await until(lambda: any(c.http.response_is_pending for c in peer.listener.connections))
            peer.listener.drain(1000)
            await trio.testing.wait_all_tasks_blocked()
            may_answer.set()
            answer = await read_to_end(stream)
        assert answer.lower().count(b"connection: close") == 1
        await peer.has_ended.wait()


async def test_a_head_on_its_way_is_still_answered(peer: Peer) -> None:
    """A request whose head is half received when the drain begins is answered."""
    async with await peer.connect() as stream:
        await stream.send_all(GET[:10])
        await until(lambda: any(not c.http.is_between_requests for c in peer.listener.connections))
        peer.listener.drain(1000)
        await trio.testing.wait_all_tasks_blocked()
        await stream.send_all(GET[10:])
        answer = await read_to_end(stream)
    assert answer.startswith(b"HTTP/1.1 200 ")
    await peer.has_ended.wait()


async def test_a_drain_closes_the_door() -> None:
    """While a drain waits for an answer, a new connection is refused by the kernel."""
    app = Streaming()
    async with serving(app) as peer, await peer.connect() as stream:
        await stream.send_all(GET)
        await stream.receive_some(65536)
        peer.listener.drain(1000)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(OSError, match="all attempts to connect"):
            await peer.connect()
        app.may_end.set()
        await peer.has_ended.wait()


async def test_no_file_descriptors_is_no_end(peer: Peer) -> None:
    """Without file descriptors no client is accepted; waiting ones are served later."""
    waiting = [_connect_unseen(peer.port) for _ in range(3)]
    for client in waiting:
        client.sendall(PLAIN_REQUEST)
    with _no_more_files():
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert not peer.listener.connections
    for client in waiting:
        assert (await _read(client)).startswith(b"HTTP/1.1 200 ")
    assert await peer.is_serving()


@contextmanager
def _no_more_files() -> Iterator[None]:
    """Forbid this process to open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_port_that_is_taken_is_one_line(peer: Peer) -> None:
    """The error names the address and the reason, for the operator."""
    with pytest.raises(AddressTaken, match=rf"cannot listen on 127.0.0.1:{peer.port}: "):
        bind("127.0.0.1", peer.port)
