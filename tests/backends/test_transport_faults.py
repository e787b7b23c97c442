from __future__ import annotations

import re
import socket
import ssl
import traceback
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest
import trio

from ollama_gateway.backends.transport import Transport
from tests.backends.asking import CHUNKED, MIB, OK, chunk, fetch, post
from tests.backends.misbehaving import (
    Peer,
    answers,
    answers_and_stays,
    never_reads,
    refuses_early,
    talking_to,
)

if TYPE_CHECKING:
    from anyio.abc import ByteStream
    from trio.testing import MockClock

BOTH = CHUNKED[:-2] + b"Content-Length: 2\r\n\r\n"


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([], id="EOF before the head"),
        pytest.param([b"HTTP/1.1 200 OK\r\nConte"], id="EOF in the head"),
        pytest.param([OK + b"Content-Length: 5\r\n\r\nhi"], id="truncated length"),
        pytest.param([OK + b"Content-Length: 5\r\n\r\n", b"hi"], id="and later"),
        pytest.param([CHUNKED + chunk(b"hi")], id="no last chunk"),
        pytest.param([CHUNKED + b"5\r\nhi"], id="half a chunk"),
        pytest.param([CHUNKED + chunk(b"hi") + b"xyz\r\n"], id="bad chunk size"),
        pytest.param([CHUNKED + b"2\r\nhiXX0\r\n\r\n"], id="bad chunk end"),
        pytest.param([BOTH + chunk(b"hi") + b"0\r\n\r\n"], id="CL and TE"),
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
async def test_answers_that_are_not_http(autojump_clock: MockClock, parts: list[bytes]) -> None:
    """A cut or broken answer is a protocol error whose text quotes nothing of the backend."""
    async with talking_to(answers(*parts)) as (transport, _):
        with pytest.raises(httpx.RemoteProtocolError) as caught:
            await fetch(transport, post())
        assert re.fullmatch(r"the (headers of the )?backend('s answer)? [a-z ]+( HTTP)?",
                            str(caught.value))  # fmt: skip


async def test_head_limit_counts_every_head_when_it_came_at_once(autojump_clock: MockClock) -> None:
    """The limit is exact, whatever follows the head in the same read."""
    head = OK + b"Content-Length: 2\r\n\r\n"
    async with talking_to(answers(head + b"hi"), max_head=len(head)) as (transport, _):
        assert await fetch(transport, post()) == (200, [b"hi"])
    async with talking_to(answers(head + b"hi"), max_head=len(head) - 1) as (transport, _):
        with pytest.raises(httpx.RemoteProtocolError, match="too large"):
            await fetch(transport, post())


async def test_good_bytes_before_a_broken_chunk_are_handed_on(autojump_clock: MockClock) -> None:
    """Bytes before a broken chunk in the same read are returned before the error."""
    async with talking_to(answers(CHUNKED + chunk(b"good") + b"xyz\r\n")) as (transport, _):
        response = await transport.handle_async_request(post())
        body = aiter(response.stream)  # type: ignore[arg-type]

        assert await anext(body) == b"good"
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(body)


@pytest.mark.parametrize("size", [13, 64 * 1024, 8 * MIB])
async def test_early_answer_is_used(autojump_clock: MockClock, size: int) -> None:
    """The answer of a backend that refuses an upload after its first bytes is used."""
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"
    async with talking_to(refuses_early(refusal)) as (transport, _):
        assert await fetch(transport, post(b"x" * size)) == (413, [b"big"])


async def test_early_answer_on_an_open_connection_ends_the_upload(
    autojump_clock: MockClock,
) -> None:
    """A final answer ends the upload, even if the backend does not read it."""

    async def refuse(peer: Peer) -> None:
        await peer.hear()
        await peer.say(b"HTTP/1.1 413 Too Large\r\n", b"Content-Length: 3\r\n\r\n", b"b", b"ig")
        await peer.gone.wait()

    async with talking_to(refuse) as (transport, backend):
        assert await fetch(transport, post(b"x" * 8 * MIB)) == (413, [b"b", b"ig"])
        assert len(backend.peers[0].heard) < MIB


async def test_interim_answer_does_not_end_the_upload(autojump_clock: MockClock) -> None:
    """A 100 during an upload is skipped, and the body is sent to its end."""

    async def go_on(peer: Peer) -> None:
        await peer.hear()
        await peer.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        await peer.hear_request()
        await peer.say(OK + b"Content-Length: 0\r\n\r\n")

    async with talking_to(go_on) as (transport, backend):
        assert await fetch(transport, post(b"x" * MIB)) == (200, [])
        assert len(backend.peers[0].heard) > MIB


@pytest.mark.parametrize("parts", [(), (b"HTTP/1.1 413 Too L",)])
async def test_upload_broken_off_without_an_answer(
    autojump_clock: MockClock, parts: tuple[bytes, ...]
) -> None:
    """A backend that closes during an upload without a complete answer is a write error."""
    async with talking_to(refuses_early(*parts)) as (transport, _):
        with pytest.raises(httpx.WriteError, match=r"^the backend broke off the request$"):
            await fetch(transport, post(b"x" * 8 * MIB))


@pytest.mark.parametrize("size", [13, 8 * MIB])
async def test_backend_that_never_reads(autojump_clock: MockClock, size: int) -> None:
    """The caller's deadline ends a write that does not progress."""
    async with talking_to(never_reads) as (transport, _):
        with trio.move_on_after(5) as deadline:
            await transport.handle_async_request(post(b"x" * size))
        assert deadline.cancelled_caught


@pytest.mark.parametrize("parts", [(), (OK,), (CHUNKED, chunk(b"hi"))])
async def test_backend_that_falls_silent(
    autojump_clock: MockClock, parts: tuple[bytes, ...]
) -> None:
    """The caller's deadline ends the wait for a head, for the rest of it, and for a body."""
    async with talking_to(answers_and_stays(*parts)) as (transport, _):
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
async def test_connecting_fails(
    autojump_clock: MockClock, failure: Exception, becomes: type[httpx.TransportError]
) -> None:
    """Every failure to connect is an error of httpx with the gateway's own text."""

    async def connect() -> ByteStream:
        raise failure

    transport = Transport(connect)
    with pytest.raises(becomes, match=r"^(cannot connect|connecting) to the backend") as caught:
        await transport.handle_async_request(post())

    assert type(caught.value) is becomes
    assert caught.value.__cause__ is failure
    assert transport.open_connections == 0


async def test_black_holed_connect(autojump_clock: MockClock) -> None:
    """A connect that never returns is counted while it runs, and ends with its caller."""
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
async def test_request_that_is_not_http(
    autojump_clock: MockClock, method: str, headers: dict[str, str]
) -> None:
    """An invalid request opens no connection, and its error quotes nothing of it."""
    request = httpx.Request(method, "http://gpu-1/", headers=headers)
    transport = Transport(trio.sleep_forever)
    with pytest.raises(
        httpx.LocalProtocolError, match=r"^the request is not valid HTTP$"
    ) as caught:
        await transport.handle_async_request(request)

    assert "secret" not in "".join(traceback.format_exception(caught.value))
