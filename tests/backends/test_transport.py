from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
import trio

from ollama_gateway.backends.heads import MAX_INTERIM
from tests.backends.asking import CHUNKED, MIB, OK, chunk, fetch, post
from tests.backends.misbehaving import answers, answers_and_stays, talking_to

if TYPE_CHECKING:
    from trio.testing import MockClock


async def test_request_on_the_wire(autojump_clock: MockClock) -> None:
    """Head and body are one write, with Content-Length, on a connection to be closed."""
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


async def test_request_without_body(autojump_clock: MockClock) -> None:
    """A GET has no framing headers, as its method has no body."""
    async with talking_to(answers(OK + b"Content-Length: 2\r\n\r\n{}")) as (transport, backend):
        await fetch(transport, httpx.Request("GET", "http://gpu-1/api/tags?a=b"))

        assert bytes(backend.peers[0].heard) == (
            b"GET /api/tags?a=b HTTP/1.1\r\nHost: gpu-1\r\nConnection: close\r\n\r\n"
        )


@pytest.mark.parametrize("size", [64 * 1024, 8 * MIB])
async def test_large_upload(autojump_clock: MockClock, size: int) -> None:
    """A body of more than one write arrives whole, and the answer after it."""
    content = bytes(range(256)) * (size // 256)
    async with talking_to(answers(OK + b"\r\ndone")) as (transport, backend):
        assert await fetch(transport, post(content)) == (200, [b"done"])
        assert backend.peers[0].heard.endswith(b"\r\n\r\n" + content)


async def test_chunks_of_one_read_are_joined(autojump_clock: MockClock) -> None:
    """The bytes of one read are returned as one chunk, at once, in any framing."""
    lines = [chunk(b'{"n":%d}\n' % n) for n in range(5)]
    parts = [CHUNKED + lines[0] + lines[1], lines[2] + lines[3], lines[4], b"0\r\n\r\n"]
    async with talking_to(answers(*parts)) as (transport, _):
        _, got = await fetch(transport, post())

    assert got == [b'{"n":0}\n{"n":1}\n', b'{"n":2}\n{"n":3}\n', b'{"n":4}\n']


async def test_bytes_are_handed_on_when_they_arrive(autojump_clock: MockClock) -> None:
    """No chunk waits for the next: each arrives in the second in which it was sent."""
    script = answers_and_stays(CHUNKED, chunk(b"a"), chunk(b"b"), b"0\r\n\r\n", every=10)
    async with talking_to(script) as (transport, _):
        start = trio.current_time()
        response = await transport.handle_async_request(post())
        times = [trio.current_time() - start]
        async for _chunk in response.aiter_raw():
            times.append(trio.current_time() - start)  # noqa: PERF401 - a time for each

    assert times == [10, 20, 30]


async def test_head_reaches_the_caller(autojump_clock: MockClock) -> None:
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
async def test_answers_without_body(
    autojump_clock: MockClock, request_: httpx.Request, head: bytes
) -> None:
    """If method or status rule out a body, none is awaited, on an open connection too."""
    async with talking_to(answers_and_stays(head)) as (transport, _):
        _, body = await fetch(transport, request_)

    assert body == []


@pytest.mark.parametrize(
    ("parts", "body"),
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
async def test_odd_answers_that_are_good(
    autojump_clock: MockClock, parts: list[bytes], body: bytes
) -> None:
    """An unusual but complete answer is returned byte for byte."""
    async with talking_to(answers(*parts)) as (transport, _):
        status, got = await fetch(transport, post())

    assert status == 200
    assert b"".join(got) == body


async def test_as_the_transport_of_a_client(autojump_clock: MockClock) -> None:
    """A client of httpx works with the transport."""
    script = answers(OK + b"Content-Type: application/json\r\n\r\n" + b'{"version":"0.6.2"}')
    async with talking_to(script) as (transport, _):
        async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
            response = await client.get("http://gpu-1/api/version")
        assert response.json() == {"version": "0.6.2"}
