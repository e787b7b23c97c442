"""Clients that do not read are cut, and a client can tell a cut answer from a whole one."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest
import structlog.testing
import trio
import trio.testing

from ollama_gateway.http.app_tasks import ASGIApp
from ollama_gateway.http.connection import ConnectionLimits
from tests.http.conftest import Serve
from tests.http.serving import (
    PLAIN_REQUEST,
    Peer,
    Receive,
    Send,
    gateway,
    hello,
    read_to_end,
    read_until,
    serving,
)

PLAIN = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"
ENDLESS = b"GET /endless HTTP/1.1\r\nhost: h\r\n\r\n"
OLD = b"GET /cut HTTP/1.0\r\nhost: h\r\n\r\n"
NEW = b"GET /cut HTTP/1.1\r\nhost: h\r\n\r\n"
START = {"type": "http.response.start", "status": 200, "headers": []}


def chunk(data: bytes) -> dict[str, Any]:
    """Return the event for a chunk that is not the last."""
    return {"type": "http.response.body", "body": data, "more_body": True}


async def flood(scope: Any, receive: Receive, send: Send) -> None:
    """Answer `/endless` until the client leaves, and every other path at once."""
    if scope["path"] != "/endless":
        await hello(scope, receive, send)
        return
    await receive()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_pour, send)
        assert (await receive())["type"] == "http.disconnect"
        nursery.cancel_scope.cancel()


async def _pour(send: Send) -> None:
    await send(START)
    while True:
        await send(chunk(b"x" * 65536))
        await trio.lowlevel.checkpoint()


async def large(_scope: Any, receive: Receive, send: Send) -> None:
    """Send a chunked answer that fills every buffer, then its end."""
    await receive()
    await send(START)
    await send(chunk(b"x" * 16 * 2**20))
    await send({"type": "http.response.body", "body": b""})


async def hang(_scope: Any, receive: Receive, send: Send) -> None:
    """Begin an answer and wait until the client leaves."""
    await receive()
    await send(START)
    await send(chunk(b"begun"))
    await receive()


async def test_a_client_that_does_not_read_is_cut_and_nobody_else(serve: Serve) -> None:
    """A client that does not read is reset after the write timeout; others are served."""
    async with serve(flood, ConnectionLimits(write_timeout=0.2)) as peer:
        stuck = await peer.connect()
        await stuck.send_all(ENDLESS)
        await stuck.receive_some(1)
        assert await peer.is_serving()
        await peer.wait_until_quiet()
        assert (await peer.read_to_end(stuck)).endswith((b"<reset>", b"<cut>"))
        await trio.aclose_forcefully(stuck)


async def test_a_client_that_reads_slowly_lives(serve: Serve) -> None:
    """The write timeout is for one write, so a slow reader keeps its connection."""
    async with serve(flood, ConnectionLimits(write_timeout=5)) as peer:
        slow = await peer.connect()
        await slow.send_all(ENDLESS)
        for _ in range(20):
            assert await slow.receive_some(65536)
            await trio.testing.wait_all_tasks_blocked(0.005)
        assert len(peer.listener.connections) == 1
        await trio.aclose_forcefully(slow)
        await peer.wait_until_quiet()


async def test_a_drain_with_such_a_client_ends_by_its_deadline(serve: Serve) -> None:
    """A stuck write ends with the drain, even if its own timeout is longer."""
    async with serve(flood, ConnectionLimits(write_timeout=1000)) as peer:
        stuck = await peer.connect()
        await stuck.send_all(ENDLESS)
        await stuck.receive_some(1)
        peer.listener.drain(0.2)
        await peer.has_ended.wait()
        assert (await peer.read_to_end(stuck)).endswith((b"<reset>", b"<cut>"))
        await trio.aclose_forcefully(stuck)
        assert not peer.listener.connections


async def test_a_client_that_pipelines_and_never_reads_leaves_no_line(serve: Serve) -> None:
    """Writes after a write that timed out do nothing and log nothing, inside TLS too."""
    with structlog.testing.capture_logs() as lines:
        async with serve(large, ConnectionLimits(write_timeout=0.2)) as peer:
            streams = [await peer.connect() for _ in range(5)]
            for stream in streams:
                await stream.send_all(PLAIN * 3)
            await peer.wait_until_quiet()
            for stream in streams:
                await trio.aclose_forcefully(stream)

    assert [line for line in lines if line["log_level"] in {"error", "warning"}] == []


async def test_a_cancelled_connection_is_seen_to_end() -> None:
    """An answer cancelled by a drain's deadline ends without the last chunk."""
    async with serving(hang) as peer:
        async with await peer.connect() as stream:
            await stream.send_all(NEW)
            answer = await read_until(stream, b"begun")
            await trio.testing.wait_all_tasks_blocked()
            peer.listener.drain(0)
            answer += await read_to_end(stream)
        assert b"0\r\n\r\n" not in answer
        await peer.has_ended.wait()


async def test_a_cut_answer_has_no_terminator(peer: Peer) -> None:
    """A failed HTTP/1.1 answer ends without the last chunk."""
    answer = await peer.exchange(NEW)
    assert b"begun" in answer
    assert b"error" in answer
    assert b"0\r\n\r\n" not in answer


@pytest.mark.parametrize("way", ["failure", "crash", "drain"])
async def test_a_cut_answer_to_http_1_0_is_a_reset(way: str) -> None:
    """A cut HTTP/1.0 answer, whose end only the close would mark, ends with a reset."""

    async def crash(scope: Any, receive: Receive, send: Send) -> None:
        await send(START)
        await send(chunk(b"begun"))
        raise ZeroDivisionError

    apps: dict[str, ASGIApp] = {"failure": gateway(), "crash": crash, "drain": hang}
    async with serving(apps[way]) as peer:
        async with await peer.connect() as stream:
            await stream.send_all(OLD)
            if way == "drain":
                await read_until(stream, b"begun")
                await trio.testing.wait_all_tasks_blocked()
                peer.listener.drain(0)
            with pytest.raises(trio.BrokenResourceError) as reset:
                await _read_all(stream)
        assert isinstance(reset.value.__cause__, OSError)
        assert reset.value.__cause__.errno == errno.ECONNRESET
        await peer.wait_until_quiet()


async def _read_all(stream: trio.SocketStream) -> None:
    while await stream.receive_some(65536):
        pass


async def test_a_whole_answer_to_http_1_0_ends_cleanly(peer: Peer) -> None:
    """A whole HTTP/1.0 answer ends with a clean close."""
    answer = await peer.exchange(b"GET / HTTP/1.0\r\n\r\n")
    assert answer.endswith(b"\r\n\r\nhello")


async def test_a_crash_in_one_connection_reaches_no_other() -> None:
    """An application that raises ends only its own connection."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if scope["path"] == "/crash":
            raise ZeroDivisionError
        await flood(scope, receive, send)

    async with serving(app) as peer, await peer.connect() as neighbour:
        await neighbour.send_all(ENDLESS)
        answer = await peer.exchange(PLAIN_REQUEST.replace(b"/ ", b"/crash ", 1))
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert await peer.is_serving()
        for _ in range(50):
            assert await neighbour.receive_some(65536)


async def test_a_client_that_resets_leaves_nothing() -> None:
    """A client that resets in the middle of an answer leaves nothing behind."""
    async with serving(flood) as peer:
        stream = await peer.connect()
        await stream.send_all(ENDLESS)
        await stream.receive_some(1)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        await stream.aclose()
        await peer.wait_until_quiet()
