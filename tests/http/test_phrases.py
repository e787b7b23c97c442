"""Every status line has its reason phrase, which some clients print."""

from __future__ import annotations

import pytest

from tests.http.serving import Peer

END = b"host: h\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "line"),
    [
        (b"GET / HTTP/1.1\r\nhost: h\r\n\r\nGET / HTTP/1.1\r\n" + END, b"HTTP/1.1 200 OK"),
        (b"GET / HTTP/1.1\r\n" + END, b"HTTP/1.1 200 OK"),
        (b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK"),
        (b"GET /nope HTTP/1.1\r\n" + END, b"HTTP/1.1 404 Not Found"),
        (b"BREW / HTTP/1.1\r\n" + END, b"HTTP/1.1 400 Bad Request"),
        (b"GET / HTTP/1.1\r\nhost : h\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
    ],
    ids=["kept alive", "the last", "HTTP/1.0", "a refusal", "a bad method", "a broken head"],
)
async def test_a_status_line_has_its_phrase(peer: Peer, request_bytes: bytes, line: bytes) -> None:
    """The phrase is there whether the gateway, hypercorn or h11 writes the answer."""
    answer = await peer.exchange(request_bytes)

    assert answer.split(b"\r\n")[0] == line
    assert b"HTTP/1.1 200 \r\n" not in answer
