"""An answer sent before the body was read arrives whole and leaves nothing behind."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import trio

from ollama_gateway.http.connection import ConnectionLimits
from tests.http.serving import Peer, Receive, Send, gateway, read_to_end, respond, serving

MEBIBYTE = 1024 * 1024
HEAD = b"POST %s HTTP/1.1\r\nhost: h\r\n%s\r\n\r\n"
LENGTH = b"content-length: %d" % (8 * MEBIBYTE)
CHUNKED = b"transfer-encoding: chunked"
CHUNK = b"10000\r\n" + b" " * 65536 + b"\r\n"

UPLOADS = {
    "401, announced": (HEAD % (b"/key", LENGTH), b"x" * 8 * MEBIBYTE, 401),
    "401, chunked": (HEAD % (b"/key", CHUNKED), CHUNK * 128 + b"0\r\n\r\n", 401),
    "413, announced": (HEAD % (b"/body", LENGTH), b"x" * 8 * MEBIBYTE, 413),
    "413, chunked": (HEAD % (b"/body", CHUNKED), CHUNK * 128 + b"0\r\n\r\n", 413),
    "404, announced": (HEAD % (b"/none", LENGTH), b"x" * 8 * MEBIBYTE, 404),
}


async def upload(peer: Peer, head: bytes, body: bytes) -> bytes:
    """Send and read at the same time; return the answer."""
    async with await peer.connect() as stream, trio.open_nursery() as nursery:
        nursery.start_soon(_send, stream, head + body)
        answer = await read_to_end(stream)
        nursery.cancel_scope.cancel()
    return answer


async def _send(stream: trio.SocketStream, data: bytes) -> None:
    try:
        await stream.send_all(data)
    except trio.BrokenResourceError:
        return


@pytest.mark.parametrize(("head", "body", "status"), UPLOADS.values(), ids=UPLOADS.keys())
async def test_a_refused_upload_reads_its_answer(head: bytes, body: bytes, status: int) -> None:
    """A client that sends and reads at once gets the whole refusal; nothing is left."""
    app = gateway(max_body=MEBIBYTE)
    async with serving(app) as peer:
        answer = await upload(peer, head, body)
        first, _, body_read = answer.partition(b"\r\n\r\n")
        assert first.startswith(b"HTTP/1.1 %d " % status)
        assert b"connection: close" in first.lower()
        text = body_read.removesuffix(b"<reset>")
        assert b"content-length: %d\r\n" % len(text) in first
        await peer.wait_until_quiet()
        assert (app.requests_running, app.bodies.held) == (0, 0)


async def test_a_client_that_sends_all_first_reads_its_answer_too() -> None:
    """A client that sends its whole body first reads the answer and its end without a reset."""
    async with serving(gateway(), ConnectionLimits(linger_timeout=1000)) as peer:
        for size in (500_000, 8 * MEBIBYTE):
            head = HEAD % (b"/key", b"content-length: %d" % size)
            answer = await peer.exchange(head + b"x" * size)
            assert answer.startswith(b"HTTP/1.1 401 ")
            assert b"<reset>" not in answer


async def test_a_client_may_send_for_longer_than_an_application_has_to_end() -> None:
    """Lingering may last longer than an application may take to end."""
    limits = ConnectionLimits(linger_timeout=1000, linger_longest=1000, disconnect_grace=0.1)
    async with serving(gateway(), limits) as peer, await peer.connect() as client:
        await client.send_all(HEAD % (b"/key", b"content-length: 40"))
        for _ in range(40):
            await client.send_all(b"x")
            await trio.sleep(0.01)
        assert (await client.receive_some()).startswith(b"HTTP/1.1 401 ")
        assert await client.receive_some() == b""


async def test_lingering_ends() -> None:
    """Lingering ends for a silent client and for one that sends without end."""
    limits = ConnectionLimits(linger_timeout=0.2, linger_longest=0.5)
    head = HEAD % (b"/key", b"content-length: 500000")
    async with serving(gateway(), limits) as peer:
        async with await peer.connect() as silent:
            await silent.send_all(head)
            await peer.wait_until_quiet()
        async with await peer.connect() as endless:
            with suppress(trio.BrokenResourceError):
                await endless.send_all(head)
                while True:
                    await endless.send_all(b"x")
                    await trio.sleep(0.02)
        await peer.wait_until_quiet()


async def test_fifty_refused_uploads_leave_nothing() -> None:
    """Fifty refused uploads at once, half of them chunked, leave no connection and no task."""
    app = gateway()
    async with serving(app) as peer:
        async with trio.open_nursery() as clients:
            for number in range(50):
                framing = (CHUNKED, b"content-length: 400000")[number % 2]
                body = (CHUNK * 6, b"x" * 400_000)[number % 2]
                clients.start_soon(upload, peer, HEAD % (b"/key", framing), body)
        await peer.wait_until_quiet()
        assert (app.requests_running, app.bodies.held) == (0, 0)


async def test_an_application_that_never_reads_holds_nothing() -> None:
    """An application may answer without reading a large body."""

    async def deaf(_scope: Any, _receive: Receive, send: Send) -> None:
        await respond(send, 401, b"no")

    async with serving(deaf) as peer:
        answer = await upload(peer, HEAD % (b"/", LENGTH), b"x" * 8 * MEBIBYTE)
        assert answer.removesuffix(b"<reset>").endswith(b"\r\n\r\nno")
        await peer.wait_until_quiet()


async def test_no_body_is_asked_for_that_nobody_wants() -> None:
    """A refused client that waits for `100 Continue` gets only the refusal."""
    async with serving(gateway(max_body=MEBIBYTE)) as peer:
        for path in (b"/key", b"/body", b"/none"):
            answer = await peer.exchange(HEAD % (path, LENGTH + b"\r\nexpect: 100-continue"))
            assert answer.startswith(b"HTTP/1.1 4")
            assert b"100" not in answer.split(b"\r\n")[0]


async def test_100_continue_is_sent_when_the_body_is_wanted(peer: Peer) -> None:
    """`100 Continue` comes once, before the client sends the body, then the real answer."""
    async with await peer.connect() as stream:
        expecting = b"content-length: 5\r\nconnection: close\r\nexpect: 100-continue"
        await stream.send_all(HEAD % (b"/body", expecting))
        assert (await stream.receive_some(65536)).startswith(b"HTTP/1.1 100 ")
        await stream.send_all(b"hello")
        answer = await read_to_end(stream)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"\r\n\r\n5")


async def test_a_body_already_sent_needs_no_100_continue(peer: Peer) -> None:
    """A body that arrives with its head gets its answer whether `100 Continue` is sent or not."""
    expecting = b"content-length: 5\r\nconnection: close\r\nexpect: 100-continue"
    answer = await peer.exchange(HEAD % (b"/body", expecting) + b"hello")
    assert answer.startswith(b"HTTP/1.1 ")
    assert answer.endswith(b"\r\n\r\n5")
    assert answer.count(b"HTTP/1.1 100 ") <= 1


@pytest.mark.parametrize("framing", [LENGTH, CHUNKED], ids=["announced", "chunked"])
async def test_an_uploader_that_leaves_is_noticed(framing: bytes) -> None:
    """A client that leaves in the middle of its body leaves nothing behind."""
    app = gateway()
    async with serving(app) as peer:
        async with await peer.connect() as stream:
            await stream.send_all(HEAD % (b"/body", framing) + CHUNK)
        await peer.wait_until_quiet()
        assert (app.requests_running, app.bodies.held) == (0, 0)


async def test_the_end_comes_before_the_lingering() -> None:
    """A refused client sees the end of its answer while the gateway still reads its body."""
    async with serving(
        gateway(), ConnectionLimits(linger_timeout=1000, disconnect_grace=1000)
    ) as peer:
        async with await peer.connect() as stream:
            await stream.send_all(b"no request at all\r\n\r\n")
            assert (await read_to_end(stream)).startswith(b"HTTP/1.1 400 ")
            assert len(peer.listener.connections) == 1
            await stream.send_all(b"more of it")
        await peer.wait_until_quiet()
