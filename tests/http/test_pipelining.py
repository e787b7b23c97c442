"""While an answer is pending the reader reads on: it sees a close and stores early requests."""

from __future__ import annotations

import contextlib
from typing import Any

import attrs
import pytest
import trio

from ollama_gateway.http.connection import ConnectionLimits
from tests.http.serving import Peer, Receive, Send, hello, read_to_end, read_until, respond, serving
from tests.support.patience import until

ANSWER = b"HTTP/1.1 200 "
GET = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"
UPGRADING = b"GET / HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"


@attrs.define(eq=False)
class Pending:
    """Answers with the path when `may_answer` is set, and notes that its client has left."""

    may_answer: trio.Event = attrs.field(factory=trio.Event, init=False)
    has_begun: trio.Event = attrs.field(factory=trio.Event, init=False)
    has_lost: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await receive()
        self.has_begun.set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, receive)
            await self.may_answer.wait()
            await respond(send, body=scope["raw_path"])
            nursery.cancel_scope.cancel()

    async def _watch(self, receive: Receive) -> None:
        event = await receive()
        assert event["type"] == "http.disconnect"
        if not self.may_answer.is_set():
            self.has_lost.set()
            self.may_answer.set()


@pytest.mark.parametrize("request_", [GET, UPGRADING], ids=["plain", "with Upgrade"])
async def test_a_close_behind_an_early_request_is_seen_at_once(request_: bytes) -> None:
    """A client that pipelines a second request and leaves is noticed while the first is pending."""
    app = Pending()
    async with serving(app) as peer:
        stream = await peer.connect()
        await stream.send_all(request_ + GET)
        await app.has_begun.wait()
        await stream.aclose()
        await app.has_lost.wait()
        await peer.wait_until_quiet()


async def test_early_requests_are_kept_and_served_in_order() -> None:
    """Early requests wait, up to the bound, and are answered in order."""
    app = Pending()
    count = 200
    early = b"".join(
        b"GET /%d HTTP/1.1\r\nhost: h\r\nx: %s\r\n\r\n" % (n, b"y" * 1200) for n in range(count)
    )
    assert 240_000 < len(early) < 256 * 1024
    async with serving(app) as peer:
        stream = await peer.connect()
        async with stream:
            await stream.send_all(early)
            await app.has_begun.wait()
            (connection,) = peer.listener.connections
            await until(lambda: connection.http.unread > len(early) - 1300)
            await stream.send_all(LAST)
            app.may_answer.set()
            answer = await read_to_end(stream)
    bodies = [part.partition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200 ")[1:]]
    assert bodies == [b"/%d" % n for n in range(count)] + [b"/"]


@pytest.mark.parametrize("request_", [GET, UPGRADING], ids=["plain", "with Upgrade"])
async def test_more_than_the_bound_ends_the_connection(request_: bytes) -> None:
    """A client that sends more than the bound while its answer is pending is cut."""
    app = Pending()
    async with serving(app, ConnectionLimits(read_ahead=10_000)) as peer:
        stream = await peer.connect()
        async with stream:
            await stream.send_all(request_)
            await app.has_begun.wait()
            with pytest.raises(trio.BrokenResourceError):  # noqa: PT012 - where depends on the kernel
                while True:
                    await stream.send_all(b"x" * 1000)
        await app.has_lost.wait()
        await peer.wait_until_quiet()


async def test_keep_alive_clients_are_never_refused(peer: Peer) -> None:
    """Four clients that send a request at the last byte of each answer lose none of 1,200."""
    served = 0

    async def client() -> None:
        nonlocal served
        async with await peer.connect() as stream:
            for _ in range(300):
                await stream.send_all(GET)
                await read_until(stream, b"\r\n\r\nhello")
                served += 1

    async with trio.open_nursery() as clients:
        for _ in range(4):
            clients.start_soon(client)
    await peer.wait_until_quiet()
    assert served == 1200


async def answers(peer: Peer, count: int) -> int:
    """Send so many pipelined requests; return how many are answered before the connection ends."""
    found, unread = 0, b""
    async with await peer.connect() as stream:
        with contextlib.suppress(trio.BrokenResourceError):
            # The listener may end the connection before it has read all.
            await stream.send_all(GET * count)
            while found < count and (data := await stream.receive_some()):
                unread += data
                found += unread.count(ANSWER)
                unread = unread[1 - len(ANSWER) :]  # an answer may begin in it
    return found


async def test_ten_thousand_requests_at_once_take_bounded_memory() -> None:
    """Ten thousand pipelined requests are answered or cut, and never held beyond the bound."""
    most = 0

    async def counting(scope: Any, receive: Receive, send: Send) -> None:
        nonlocal most
        most = max(most, *(connection.http.unread for connection in peer.listener.connections))
        await hello(scope, receive, send)

    async with serving(counting) as peer:
        assert 0 < await answers(peer, 10_000) <= 10_000
        assert 0 < most <= 256 * 1024 + 65536
        assert await peer.is_serving()
        await peer.wait_until_quiet()
