"""Clients that do not read, and answers that are cut: seen by both sides for what they are."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest
import trio
import trio.testing

from ollama_gateway.http.app_tasks import ASGIApp
from ollama_gateway.http.connection import ConnectionLimits
from tests.http.serving import PLAIN_REQUEST, Receive, Send, gateway, hello, read_to_end, serving

ENDLESS = b"GET /endless HTTP/1.1\r\nhost: h\r\n\r\n"
OLD = b"GET /cut HTTP/1.0\r\nhost: h\r\n\r\n"
NEW = b"GET /cut HTTP/1.1\r\nhost: h\r\n\r\n"
START = {"type": "http.response.start", "status": 200, "headers": []}


def piece(data: bytes) -> dict[str, Any]:
    """A part of a body that is not the last."""
    return {"type": "http.response.body", "body": data, "more_body": True}


async def flood(scope: Any, receive: Receive, send: Send) -> None:
    """Answer `/endless` without end until the client leaves, everything else at once."""
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
        await send(piece(b"x" * 65536))
        await trio.lowlevel.checkpoint()


async def hang(_scope: Any, receive: Receive, send: Send) -> None:
    """Begin an answer and wait until the client leaves."""
    await receive()
    await send(START)
    await send(piece(b"begun"))
    await receive()


async def test_a_client_that_does_not_read_is_cut_and_nobody_else() -> None:
    """Its connection is reset after the write timeout; the others are served meanwhile."""
    limits = ConnectionLimits(write_timeout=0.2)
    async with serving(flood, limits) as peer, await peer.connect() as stuck:
        await stuck.send_all(ENDLESS)
        await stuck.receive_some(1)
        assert await peer.is_serving()
        await peer.wait_until_quiet()
        assert (await read_to_end(stuck)).endswith(b"<reset>")


async def test_a_client_that_reads_slowly_lives() -> None:
    """The timeout is for one write, not for the answer: a slow reader keeps its connection."""
    async with serving(flood, ConnectionLimits(write_timeout=5)) as peer:
        async with await peer.connect() as slow:
            await slow.send_all(ENDLESS)
            for _ in range(20):
                assert await slow.receive_some(65536)
                await trio.testing.wait_all_tasks_blocked(0.005)
            assert len(peer.listener.connections) == 1
        await peer.wait_until_quiet()


async def test_a_drain_with_such_a_client_ends_by_its_deadline() -> None:
    """A stuck write with a long timeout of its own ends with the drain."""
    async with serving(flood, ConnectionLimits(write_timeout=1000)) as peer:
        async with await peer.connect() as stuck:
            await stuck.send_all(ENDLESS)
            await stuck.receive_some(1)
            peer.listener.drain(0.2)
            await peer.has_ended.wait()
            assert (await read_to_end(stuck)).endswith(b"<reset>")
        assert not peer.listener.connections


async def test_a_cancelled_connection_is_seen_to_end() -> None:
    """When a drain's deadline cancels an answer, a chunked client sees the end, not its mark."""
    async with serving(hang) as peer:
        async with await peer.connect() as stream:
            await stream.send_all(NEW)
            answer = b""
            while b"begun" not in answer:
                answer += await stream.receive_some(65536)
            await trio.testing.wait_all_tasks_blocked()
            peer.listener.drain(0)
            answer += await read_to_end(stream)
        assert b"0\r\n\r\n" not in answer
        await peer.has_ended.wait()


async def test_a_cut_answer_has_no_terminator() -> None:
    """An HTTP/1.1 client can tell that a failed answer is no whole one."""
    async with serving(gateway()) as peer:
        answer = await peer.exchange(NEW)
        assert b"begun" in answer
        assert b"error" in answer
        assert b"0\r\n\r\n" not in answer


@pytest.mark.parametrize("way", ["failure", "crash", "drain"])
async def test_a_cut_answer_to_http_1_0_is_a_reset(way: str) -> None:
    """Where only the end of the connection marks the end of an answer, a cut one is no end."""

    async def crash(scope: Any, receive: Receive, send: Send) -> None:
        await send(START)
        await send(piece(b"begun"))
        raise ZeroDivisionError

    apps: dict[str, ASGIApp] = {"failure": gateway(), "crash": crash, "drain": hang}
    async with serving(apps[way]) as peer:
        async with await peer.connect() as stream:
            await stream.send_all(OLD)
            answer = b""
            if way == "drain":
                while b"begun" not in answer:
                    answer += await stream.receive_some(65536)
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


async def test_a_whole_answer_to_http_1_0_ends_cleanly() -> None:
    """An HTTP/1.0 client that gets everything sees a clean end."""
    async with serving(gateway()) as peer:
        answer = await peer.exchange(b"GET / HTTP/1.0\r\n\r\n")
        assert answer.endswith(b"\r\n\r\nhello")


async def test_a_crash_in_one_connection_reaches_no_other() -> None:
    """An application that raises ends its own connection; a neighbour's stream goes on."""

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
    """A reset in the middle of an answer is a client that left."""
    async with serving(flood) as peer:
        stream = await peer.connect()
        await stream.send_all(ENDLESS)
        await stream.receive_some(1)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        await stream.aclose()
        await peer.wait_until_quiet()
