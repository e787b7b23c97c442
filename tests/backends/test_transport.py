from __future__ import annotations

import re
import socket
import ssl
import traceback
from collections.abc import AsyncIterator

import anyio
import httpx
import pytest
import trio
from anyio.abc import ByteStream

from ollama_gateway.backends.transport import MAX_INTERIM, Transport
from tests.backends.misbehaving import (
    Peer,
    answers,
    answers_and_stays,
    never_reads,
    refuses_early,
    talking_to,
)

pytestmark = pytest.mark.usefixtures("autojump_clock")

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
MIB = 1024 * 1024


def post(content: bytes = b'{"model":"m"}') -> httpx.Request:
    return httpx.Request("POST", "http://gpu-1:11434/api/chat", content=content)


async def fetch(transport: Transport, request: httpx.Request) -> tuple[int, list[bytes]]:
    """The status, and the body in the pieces in which it was handed on."""
    response = await transport.handle_async_request(request)
    return response.status_code, [chunk async for chunk in response.aiter_raw()]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def test_request_on_the_wire() -> None:
    """Head and body leave in one write, framed by Content-Length, on a connection to be closed."""
    request = post()
    request.headers["connection"] = "keep-alive"
    async with talking_to(answers(OK + b"Content-Length: 2\r\n\r\nhi")) as (transport, backend):
        assert await fetch(transport, request) == (200, [b"hi"])
        (peer,) = backend.peers

        assert bytes(peer.heard) == (
            b"POST /api/chat HTTP/1.1\r\nHost: gpu-1:11434\r\n"
            b'Content-Length: 13\r\nConnection: close\r\n\r\n{"model":"m"}'
        )
        assert len(peer.writes) == 1


async def test_streamed_request_is_given_a_length() -> None:
    """A request that httpx would send in chunks goes out with a Content-Length instead."""

    async def content() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    request = httpx.Request("POST", "http://gpu-1/", content=content())
    async with talking_to(answers(OK + b"Content-Length: 0\r\n\r\n")) as (transport, backend):
        await fetch(transport, request)
        heard = bytes(backend.peers[0].heard)

    assert b"Content-Length: 7\r\n" in heard
    assert b"ransfer-" not in heard
    assert heard.endswith(b"\r\n\r\none two")


async def test_request_without_body() -> None:
    """A GET says nothing of a body, as its method has none."""
    async with talking_to(answers(OK + b"Content-Length: 2\r\n\r\n{}")) as (transport, backend):
        await fetch(transport, httpx.Request("GET", "http://gpu-1/api/tags?a=b"))

        assert bytes(backend.peers[0].heard) == (
            b"GET /api/tags?a=b HTTP/1.1\r\nHost: gpu-1\r\nConnection: close\r\n\r\n"
        )


@pytest.mark.parametrize("size", [64 * 1024, 8 * MIB])
async def test_large_upload(size: int) -> None:
    """A body of more than one write arrives whole, and the answer after it."""
    content = bytes(range(256)) * (size // 256)
    async with talking_to(answers(OK + b"\r\ndone")) as (transport, backend):
        assert await fetch(transport, post(content)) == (200, [b"done"])
        assert backend.peers[0].heard.endswith(b"\r\n\r\n" + content)


async def test_chunks_of_one_read_are_joined() -> None:
    """What one read gave is handed on as one chunk, at once, however it was framed."""
    lines = [chunk(b'{"n":%d}\n' % n) for n in range(5)]
    pieces = [CHUNKED + lines[0] + lines[1], lines[2] + lines[3], lines[4], b"0\r\n\r\n"]
    async with talking_to(answers(*pieces)) as (transport, _):
        _, got = await fetch(transport, post())

    assert got == [b'{"n":0}\n{"n":1}\n', b'{"n":2}\n{"n":3}\n', b'{"n":4}\n']


async def test_bytes_are_handed_on_when_they_arrive() -> None:
    """No chunk waits for the next one: each is there in the second in which it was sent."""
    script = answers_and_stays(CHUNKED, chunk(b"a"), chunk(b"b"), b"0\r\n\r\n", every=10)
    async with talking_to(script) as (transport, _):
        start = trio.current_time()
        response = await transport.handle_async_request(post())
        times = [trio.current_time() - start]
        async for _chunk in response.aiter_raw():
            times.append(trio.current_time() - start)  # noqa: PERF401 - a time for each

    assert times == [10, 20, 30]


async def test_head_reaches_the_caller() -> None:
    """Status, headers with their spelling, reason and version are those of the backend."""
    head = b"HTTP/1.0 503 Busy\r\nRetry-After: 5\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 0\r\n\r\n"
    async with talking_to(answers(head)) as (transport, _):
        response = await transport.handle_async_request(post())
        await response.aclose()

    assert response.status_code == 503
    assert response.headers.raw[:3] == [(b"Retry-After", b"5"), (b"X-A", b"1"), (b"x-a", b"2")]
    assert response.http_version == "HTTP/1.0"
    assert response.reason_phrase == "Busy"


@pytest.mark.parametrize(
    ("request_", "head"),
    [
        (httpx.Request("HEAD", "http://gpu-1/"), OK + b"Content-Length: 17\r\n\r\n"),
        (httpx.Request("GET", "http://gpu-1/"), b"HTTP/1.1 204 No Content\r\n\r\n"),
    ],
)
async def test_answers_without_body(request_: httpx.Request, head: bytes) -> None:
    """A body that the method or status rules out is not waited for, on an open connection too."""
    async with talking_to(answers_and_stays(head)) as (transport, _):
        _, body = await fetch(transport, request_)

    assert body == []


@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        pytest.param([OK + b"\r\n", b"one ", b"two"], b"one two", id="no framing, EOF"),
        pytest.param([OK + b"Content-Length: 2\r\n\r\nhiGARBAGE"], b"hi", id="trailing garbage"),
        pytest.param([CHUNKED + chunk(b"hi") + b"0\r\n\r\nHTTP/1.1 500 "], b"hi", id="and chunked"),
        pytest.param(
            [OK + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00"],
            b"\x1f\x8b\x08\x00",
            id="gzip is left alone",
        ),
        pytest.param([CHUNKED, chunk(b"\xe2\x82"), chunk(b"\xac"), b"0\r\n\r\n"], b"\xe2\x82\xac",
                     id="UTF-8 cut"),
        pytest.param([b"HTTP/1.1 100 Continue\r\n\r\n" * MAX_INTERIM + OK + b"\r\nhi"], b"hi",
                     id="interim responses"),
        pytest.param([bytes([byte]) for byte in OK + b"\r\nhi"], b"hi", id="dripped"),
    ],
)  # fmt: skip
async def test_odd_answers_that_are_good(pieces: list[bytes], body: bytes) -> None:
    """An answer that is odd but whole is handed on, byte for byte."""
    async with talking_to(answers(*pieces)) as (transport, _):
        status, got = await fetch(transport, post())

    assert status == 200
    assert b"".join(got) == body


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([], id="EOF before the head"),
        pytest.param([b"HTTP/1.1 200 OK\r\nConte"], id="EOF in the head"),
        pytest.param([OK + b"Content-Length: 5\r\n\r\nhi"], id="truncated length"),
        pytest.param([OK + b"Content-Length: 5\r\n\r\n", b"hi"], id="and later"),
        pytest.param([CHUNKED + chunk(b"hi")], id="no last chunk"),
        pytest.param([CHUNKED + b"5\r\nhi"], id="half a chunk"),
        pytest.param([CHUNKED + chunk(b"hi") + b"xyz\r\n"], id="bad chunk size"),
        pytest.param([CHUNKED + b"2\r\nhiXX0\r\n\r\n"], id="bad chunk end"),
        pytest.param([CHUNKED[:-2] + b"Content-Length: 2\r\n\r\n" + chunk(b"hi")], id="CL and TE"),
        pytest.param([OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi"], id="two CL"),
        pytest.param([OK + b"Transfer-Encoding: gzip\r\n\r\nhi"], id="another TE"),
        pytest.param([b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n"], id="status 999"),
        pytest.param([b"HTTP/1.1 600 What\r\nContent-Length: 0\r\n\r\n"], id="status 600"),
        pytest.param([b"HTTP/1.1 099 What\r\nContent-Length: 0\r\n\r\n"], id="status 099"),
        pytest.param([b"HTTP/1.1 101 Switching Protocols\r\n\r\n"], id="status 101"),
        pytest.param([b"HTTP/1.1 100 Go\r\n\r\n" * 17 + OK + b"\r\n"], id="17 interim"),
        pytest.param([b"HTTP/1.1 103 Hint\r\n\r\n"] * 17 + [OK + b"\r\n"], id="in 17 writes"),
        pytest.param([OK + b"X: " + b"x" * 200_000 + b"\r\n\r\n"], id="200 KB header"),
        pytest.param([OK + (b"X: " + b"x" * 1000 + b"\r\n") * 70 + b"\r\n"], id="70 KB of them"),
        pytest.param([OK + b"bad header\r\n\r\n"], id="no colon"),
        pytest.param([OK + b"X: a\x00b\r\n\r\n"], id="NUL"),
        pytest.param([b"SSH-2.0-OpenSSH_9.6\r\n"], id="SSH"),
        pytest.param([b"\x15\x03\x01\x00\x02\x02\x16"], id="a TLS alert"),
        pytest.param([b"\r\n\r\n"], id="blank lines"),
        pytest.param([b"\xff" * 100_000], id="noise"),
    ],
)
async def test_answers_that_are_not_http(pieces: list[bytes]) -> None:
    """A cut or broken answer is a protocol error whose text holds nothing of the backend's."""
    async with talking_to(answers(*pieces)) as (transport, _):
        with pytest.raises(httpx.RemoteProtocolError) as caught:
            await fetch(transport, post())
        assert re.fullmatch(r"the (headers of the )?backend('s answer)? [a-z ]+( HTTP)?",
                            str(caught.value))  # fmt: skip


async def test_head_limit_counts_every_head_when_it_came_at_once() -> None:
    """The limit is exact, whatever came behind the head in the same read."""
    head = OK + b"Content-Length: 2\r\n\r\n"
    async with talking_to(answers(head + b"hi"), max_head=len(head)) as (transport, _):
        assert await fetch(transport, post()) == (200, [b"hi"])
    async with talking_to(answers(head + b"hi"), max_head=len(head) - 1) as (transport, _):
        with pytest.raises(httpx.RemoteProtocolError, match="too large"):
            await fetch(transport, post())


async def test_good_bytes_before_a_broken_chunk_are_handed_on() -> None:
    """An error does not swallow what the same read gave before it."""
    async with talking_to(answers(CHUNKED + chunk(b"good") + b"xyz\r\n")) as (transport, _):
        response = await transport.handle_async_request(post())
        body = aiter(response.stream)  # type: ignore[arg-type]

        assert await anext(body) == b"good"
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(body)


@pytest.mark.parametrize("size", [13, 64 * 1024, 8 * MIB])
async def test_early_answer_is_used(size: int) -> None:
    """A backend that refuses an upload after its first bytes and closes is heard."""
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"
    async with talking_to(refuses_early(refusal)) as (transport, _):
        assert await fetch(transport, post(b"x" * size)) == (413, [b"big"])


async def test_early_answer_on_an_open_connection_ends_the_upload() -> None:
    """A final answer is not kept waiting for a body that nobody reads."""

    async def refuse(peer: Peer) -> None:
        await peer.hear()
        await peer.say(b"HTTP/1.1 413 Too Large\r\n", b"Content-Length: 3\r\n\r\n", b"b", b"ig")
        await peer.gone.wait()

    async with talking_to(refuse) as (transport, backend):
        assert await fetch(transport, post(b"x" * 8 * MIB)) == (413, [b"b", b"ig"])
        assert len(backend.peers[0].heard) < MIB


async def test_interim_answer_does_not_end_the_upload() -> None:
    """A 100 in the middle of an upload is skipped and the body goes on to its end."""

    async def go_on(peer: Peer) -> None:
        await peer.hear()
        await peer.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        await peer.hear_request()
        await peer.say(OK + b"Content-Length: 0\r\n\r\n")

    async with talking_to(go_on) as (transport, backend):
        assert await fetch(transport, post(b"x" * MIB)) == (200, [])
        assert len(backend.peers[0].heard) > MIB


@pytest.mark.parametrize("pieces", [(), (b"HTTP/1.1 413 Too L",)])
async def test_upload_broken_off_without_an_answer(pieces: tuple[bytes, ...]) -> None:
    """A backend that goes in the middle of an upload, saying nothing whole, is a write error."""
    async with talking_to(refuses_early(*pieces)) as (transport, _):
        with pytest.raises(httpx.WriteError, match="^the backend broke off the request$"):
            await fetch(transport, post(b"x" * 8 * MIB))


@pytest.mark.parametrize("size", [13, 8 * MIB])
async def test_backend_that_never_reads(size: int) -> None:
    """The caller's deadline ends a write that is stuck."""
    async with talking_to(never_reads) as (transport, _):
        with trio.move_on_after(5) as deadline:
            await transport.handle_async_request(post(b"x" * size))
        assert deadline.cancelled_caught


@pytest.mark.parametrize("pieces", [(), (OK,), (CHUNKED, chunk(b"hi"))])
async def test_backend_that_falls_silent(pieces: tuple[bytes, ...]) -> None:
    """The caller's deadline ends the wait for a head, for its rest and for a body."""
    async with talking_to(answers_and_stays(*pieces)) as (transport, _):
        with trio.move_on_after(5) as deadline:
            await fetch(transport, post())
        assert deadline.cancelled_caught


@pytest.mark.parametrize(
    ("failure", "becomes"),
    [
        (ConnectionRefusedError("10.0.0.5"), httpx.ConnectError),
        (socket.gaierror(-2, "gpu-1"), httpx.ConnectError),
        (ssl.SSLError(1, "gpu-1"), httpx.ConnectError),
        (UnicodeError("gpu-1"), httpx.ConnectError),
        (anyio.BrokenResourceError(), httpx.ConnectError),
        (anyio.EndOfStream(), httpx.ConnectError),
        (TimeoutError("10.0.0.5"), httpx.ConnectTimeout),
    ],
)
async def test_connecting_fails(failure: Exception, becomes: type[httpx.TransportError]) -> None:
    """Whatever prevents a connection is httpx's error, with a text of ours."""

    async def connect() -> ByteStream:
        raise failure

    transport = Transport(connect)
    with pytest.raises(becomes, match="^(cannot connect|connecting) to the backend") as caught:
        await transport.handle_async_request(post())

    assert type(caught.value) is becomes
    assert caught.value.__cause__ is failure
    assert transport.open_connections == 0


async def test_black_holed_connect() -> None:
    """A connect that never returns is counted while it lasts and leaves with its caller."""
    transport = Transport(trio.sleep_forever)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.handle_async_request, post())
        await trio.sleep(2)
        assert transport.open_connections == 1
        nursery.cancel_scope.cancel()

    assert transport.open_connections == 0


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", {"authorization": "Bearer secret\r\nx: y"}),
        ("POST", {"x": "secret\x00"}),
        ("GET secret", {}),
        ("GÉT", {}),
    ],
)
async def test_request_that_is_not_http(method: str, headers: dict[str, str]) -> None:
    """Nothing is opened for a request that cannot be sent, and its error repeats none of it."""
    transport = Transport(trio.sleep_forever)
    with pytest.raises(httpx.LocalProtocolError, match="^the request is not valid HTTP$") as caught:
        await transport.handle_async_request(
            httpx.Request(method, "http://gpu-1/", headers=headers)
        )

    assert "secret" not in "".join(traceback.format_exception(caught.value))


async def test_as_the_transport_of_a_client() -> None:
    """httpx's client works on it, for probes."""
    script = answers(OK + b"Content-Type: application/json\r\n\r\n" + b'{"version":"0.6.2"}')
    async with talking_to(script) as (transport, _):
        async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
            response = await client.get("http://gpu-1/api/version")
        assert response.json() == {"version": "0.6.2"}
