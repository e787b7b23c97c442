"""Requests that two servers may read differently get a definite answer, or a close."""

from __future__ import annotations

import gzip
from typing import Final

import pytest
import trio

from ollama_gateway.http.connection import ConnectionLimits
from tests.http.serving import Peer, gateway, serving
from tests.support.patience import until

CLOSED: Final = 0
"""Stands for a status: the connection ended without an answer."""
POST: Final = b"POST /body HTTP/1.1\r\nhost: h\r\n"
GET: Final = b"GET / HTTP/1.1\r\nhost: h\r\n"
CHUNKED: Final = POST + b"transfer-encoding: chunked\r\n\r\n"
HELLO: Final = b"5\r\nhello\r\n0\r\n\r\n"

FRAMING: Final[dict[str, tuple[bytes, set[int]]]] = {
    "length and chunked": (
        POST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n" + HELLO,
        {400},
    ),
    "two lengths": (POST + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello", {400}),
    "the same length twice": (POST + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello", {200}),
    "a list of lengths": (POST + b"content-length: 5, 5\r\n\r\nhello", {200, 400}),
    "a list of two lengths": (POST + b"content-length: 5, 6\r\n\r\nhello", {400}),
    "a signed length": (POST + b"content-length: +5\r\n\r\nhello", {400}),
    "a negative length": (POST + b"content-length: -5\r\n\r\nhello", {400}),
    "a length with zeros": (POST + b"content-length: 005\r\n\r\nhello", {400}),
    "a length beyond 64 bits": (POST + b"content-length: 99999999999999999999\r\n\r\n", {400}),
    "a length in words": (POST + b"content-length: five\r\n\r\nhello", {400}),
    "xchunked": (POST + b"transfer-encoding: xchunked\r\n\r\n" + HELLO, {400}),
    "chunked, identity": (POST + b"transfer-encoding: chunked, identity\r\n\r\n" + HELLO, {400}),
    "gzip, chunked": (POST + b"transfer-encoding: gzip, chunked\r\n\r\n" + HELLO, {400}),
    "chunked;x=y": (POST + b"transfer-encoding: chunked;x=y\r\n\r\n" + HELLO, {400}),
    "an empty coding": (POST + b"transfer-encoding: \r\n\r\n" + HELLO, {400}),
    "chunked and a vertical tab": (POST + b"transfer-encoding: chunked\x0b\r\n\r\n" + HELLO, {400}),
    "a folded coding": (POST + b"transfer-encoding:\r\n chunked\r\n\r\n" + HELLO, {400}),
    "two codings": (
        POST + b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n" + HELLO,
        {400},
    ),
    "chunked twice": (
        POST + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n" + HELLO,
        {400},
    ),
    "Transfer_Encoding": (POST + b"transfer_encoding: chunked\r\n\r\n" + HELLO, {400}),
    "chunked on HTTP/1.0": (
        b"POST /body HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n" + HELLO,
        {400},
    ),
    "a bare LF in the request line": (b"GET / HTTP/1.1\nhost: h\r\n\r\n", {200, 400}),
    "bare LFs everywhere": (b"GET / HTTP/1.1\nhost: h\n\n", {200, 400}),
    "a bare CR in the request line": (b"GET / HTTP/1.1\rhost: h\r\n\r\n", {400}),
    "a bare CR in a header": (GET + b"a: b\rc: d\r\n\r\n", {400}),
    "a bare CR ends the head": (GET + b"a: b\r\r\n\r\n", {400}),
    "a bare LF in the chunk header": (CHUNKED + b"5\nhello\r\n0\r\n\r\n", {200, 400}),
    "a bare CR in the chunk header": (CHUNKED + b"5\rhello\r\n0\r\n\r\n", {400}),
    "a bare LF after the last chunk": (CHUNKED + b"5\r\nhello\r\n0\n\n\r\n", {400}),
    "a bare CR after the last chunk": (CHUNKED + b"5\r\nhello\r\n0\r\r\r\n\r\n", {400}),
    "no CRLF after a chunk": (CHUNKED + b"5\r\nhello0\r\n\r\n", {400}),
    "a wrong footer": (CHUNKED + b"5\r\nhelloXX0\r\n\r\n", {400}),
    "a chunk size of no digits": (CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n", {400}),
    "a signed chunk size": (CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n", {400}),
    "a chunk size of 0x": (CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n", {400}),
    "a chunk size beyond 64 bits": (CHUNKED + b"f" * 21 + b"\r\nhello\r\n0\r\n\r\n", {400}),
    "an endless chunk header": (CHUNKED + b"5;" + b"x" * 100_000, {431}),
    "garbage after the body": (POST + b"content-length: 5\r\n\r\nhello\x00\x01\r\n\r\n", {200}),
    "an empty line first": (b"\r\n" + GET + b"\r\n", {200, 400}),
    "spaces in the request line": (b"GET  /  HTTP/1.1\r\nhost: h\r\n\r\n", {400}),
    "a target with a space": (b"GET /a b HTTP/1.1\r\nhost: h\r\n\r\n", {400}),
    "a target of bytes": (b"GET /\xff HTTP/1.1\r\nhost: h\r\n\r\n", {400}),
    "a target of 40 KiB": (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nhost: h\r\n\r\n", {431}),
    "an absolute target": (b"GET http://other/ HTTP/1.1\r\nhost: h\r\n\r\n", {400}),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n", {400}),
}
"""By name: the bytes, and the statuses that the first answer may have."""

HEADERS: Final[dict[str, tuple[bytes, set[int]]]] = {
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", {400}),
    "two Hosts": (GET + b"host: i\r\n\r\n", {400}),
    "an empty Host": (b"GET / HTTP/1.1\r\nhost:\r\n\r\n", {400}),
    "user@ in Host": (b"GET / HTTP/1.1\r\nhost: user@h\r\n\r\n", {400}),
    "CVE-2026-49468, #@ in Host": (b"GET / HTTP/1.1\r\nhost: h#@localhost\r\n\r\n", {400}),
    "a path in Host": (b"GET / HTTP/1.1\r\nhost: h/path\r\n\r\n", {400}),
    "a comma in Host": (b"GET / HTTP/1.1\r\nhost: a, b\r\n\r\n", {400}),
    "a Host beyond ASCII": (b"GET / HTTP/1.1\r\nhost: h\xc3\xb6\r\n\r\n", {400}),
    "NUL in a value": (GET + b"a: b\x00c\r\n\r\n", {400}),
    "NUL in a name": (GET + b"a\x00b: c\r\n\r\n", {400}),
    "a control character": (GET + b"a: b\x01c\r\n\r\n", {400}),
    "a folded header": (GET + b"a: b\r\n c\r\n\r\n", {400}),
    "a folded first header": (b"GET / HTTP/1.1\r\n host: h\r\n\r\n", {400}),
    "a space before the colon": (GET + b"a : b\r\n\r\n", {400}),
    "an empty name": (GET + b": b\r\n\r\n", {400}),
    "a line without a colon": (GET + b"nothing\r\n\r\n", {400}),
    "1500 headers": (GET + b"".join(b"a%d: b\r\n" % n for n in range(1500)) + b"\r\n", {431}),
    "17 KiB in one header": (GET + b"a: " + b"b" * 17 * 1024 + b"\r\n\r\n", {200}),
    "33 KiB in one segment": (GET + b"a: " + b"b" * 33 * 1024 + b"\r\n\r\n", {431}),
    "1 MiB without an end": (GET + b"a: " + b"b" * 1024 * 1024, {431}),
    "bytes beyond ASCII in a value": (GET + b"a: \xff\xfe\r\n\r\n", {200}),
    "a gzip body": (
        POST + b"content-encoding: gzip\r\ncontent-length: 1000\r\n\r\n" + b"\x1f" * 1000,
        {200},
    ),
    "no type": (POST + b"content-length: 2\r\n\r\n{}", {200}),
    "UTF-16": (
        POST + b"content-type: application/json; charset=utf-16\r\ncontent-length: 2\r\n\r\n{}",
        {200},
    ),
    "multipart": (
        POST + b"content-type: multipart/form-data\r\ncontent-length: 2\r\n\r\n{}",
        {200},
    ),
}
"""The listener passes encoded or oddly typed bodies on; the code that reads them refuses them."""

CASES: Final = {**FRAMING, **HEADERS}


@pytest.mark.parametrize(("data", "allowed"), CASES.values(), ids=CASES.keys())
async def test_every_odd_request_has_a_definite_answer(
    peer: Peer, data: bytes, allowed: set[int]
) -> None:
    """The first answer has an allowed status, other clients are served, and nothing is left."""
    assert await first_status(peer, data) in allowed
    assert await peer.is_serving()
    await peer.wait_until_quiet()


async def first_status(peer: Peer, data: bytes) -> int:
    """Send bytes and return the status of the first answer, or CLOSED."""
    async with await peer.connect() as stream, trio.open_nursery() as nursery:
        nursery.start_soon(send_what_it_takes, stream, data)
        answer = b""
        try:
            while b"\r\n" not in answer and (more := await stream.receive_some(65536)):
                answer += more
        except trio.BrokenResourceError:
            pass
        nursery.cancel_scope.cancel()
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else CLOSED


async def send_what_it_takes(stream: trio.SocketStream, data: bytes) -> None:
    """Send until the other side closes."""
    try:
        await stream.send_all(data)
    except trio.BrokenResourceError:
        return


async def test_nothing_is_left_of_all_of_them_at_once() -> None:
    """The whole corpus at one time leaves no connection, no task and no byte held."""
    app = gateway()
    async with serving(app) as peer:
        async with trio.open_nursery() as clients:
            for data, _ in CASES.values():
                clients.start_soon(first_status, peer, data)
        await peer.wait_until_quiet()
        assert (app.bodies.held, app.requests_running) == (0, 0)
        assert await peer.is_serving()


async def test_a_body_shorter_than_its_length_leaves_nothing() -> None:
    """A client that leaves before the end of its body leaves nothing behind."""
    app = gateway()
    async with serving(app) as peer:
        async with await peer.connect() as stream:
            await stream.send_all(POST + b"content-length: 50\r\n\r\nhello")
            await stream.send_eof()
            assert await stream.receive_some(1) == b""
        await peer.wait_until_quiet()
        assert app.bodies.held == 0


async def test_smuggled_bytes_are_no_second_request(peer: Peer) -> None:
    """No bytes after a refused head are read as a request."""
    both = POST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    answer = await peer.exchange(both + GET + b"\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b" 400 " in answer.split(b"\r\n")[0]


async def test_a_gzip_bomb_is_not_opened() -> None:
    """A gzip body counts with its compressed size: it is not decompressed."""
    bomb = gzip.compress(bytes(10_000_000))
    async with serving(gateway(max_body=1024 * 1024)) as peer:
        head = b"connection: close\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n"
        answer = await peer.exchange(POST + head % len(bomb) + bomb)
        assert answer.endswith(b"%d" % len(bomb))


async def test_a_dripped_head_is_told_so() -> None:
    """A head that is not whole in time gets 408 and a close, however often bytes come."""
    async with serving(gateway(), ConnectionLimits(head_timeout=0.2)) as peer:
        stream = await peer.connect()
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(_drip, stream)
            answer = b""
            while more := await stream.receive_some(65536):
                answer += more
            nursery.cancel_scope.cancel()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert answer.lower().count(b"connection: close") == 1


async def _drip(stream: trio.SocketStream) -> None:
    for byte in GET + b"a: " + b"b" * 100_000:
        await send_what_it_takes(stream, bytes([byte]))
        await trio.sleep(0.01)


@pytest.mark.parametrize("before", [b"", GET + b"\r\n"], ids=["new", "kept alive"])
async def test_an_idle_connection_ends_in_silence(before: bytes) -> None:
    """An idle client sees a plain end: no error and no reset."""
    async with serving(gateway(), ConnectionLimits(0.2, 0.2)) as peer:
        answer = await peer.exchange(before)
        assert answer.count(b"HTTP/1.1 ") == before.count(b"HTTP/1.1")
        assert b"<reset>" not in answer
        assert b" 408 " not in answer
        await peer.wait_until_quiet()


async def test_over_the_cap_a_client_is_turned_away() -> None:
    """A connection over the cap gets 503 and a close; when another ends, there is room again."""
    async with serving(gateway(), max_connections=2) as peer:
        first, second = await peer.connect(), await peer.connect()
        async with second:
            async with first:
                await first.send_all(GET + b"\r\n")
                await first.receive_some(1)
                answer = await peer.exchange(b"")
                assert answer.startswith(b"HTTP/1.1 503 ")
                assert answer.lower().count(b"connection: close") == 1
            await until(lambda: len(peer.listener.connections) < 2)
            assert await peer.is_serving()


async def test_a_burst_does_not_pass_the_cap() -> None:
    """Of a burst in the backlog, no more connections than the cap are admitted."""
    async with serving(gateway(), max_connections=3) as peer:
        streams = [await peer.connect() for _ in range(20)]
        answers = 0
        for stream in streams:
            with trio.move_on_after(0.05):
                answers += (await stream.receive_some(65536)).startswith(b"HTTP/1.1 503 ")
        assert len(peer.listener.connections) == 3
        assert answers == 17
        for stream in streams:
            await stream.aclose()
