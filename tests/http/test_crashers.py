"""Requests that crash stock hypercorn on Trio, or use another protocol, end their connection."""

from __future__ import annotations

from typing import Final

import pytest

from tests.http.serving import Peer, gateway
from tests.http.tls_serving import serving_tls
from tests.support.certificates import ServerFiles

UPGRADE: Final = (
    b"GET / HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
H2C: Final = b"GET / HTTP/1.1\r\nhost: h\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n"
CLIENT_HELLO: Final = bytes.fromhex("16030100c8010000c40303") + bytes(range(190))

ANSWERED_IN_HTTP_1: Final = {
    "websocket: bad protocol": UPGRADE + b"sec-websocket-protocol: \xff\xfe\r\n\r\n",
    "websocket: bad extensions": UPGRADE + b"sec-websocket-extensions: \xff\xfe\r\n\r\n",
    "websocket: with a body": UPGRADE + b"content-length: 5\r\n\r\nhello",
    "websocket: trailing bytes": UPGRADE + b"\r\n\x81\x05early",
    "websocket: no key": b"GET / HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\n"
    b"upgrade: websocket\r\n\r\n",
    "websocket: POST": UPGRADE.replace(b"GET", b"POST") + b"content-length: 0\r\n\r\n",
    "websocket: HTTP/1.0": UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n",
    "h2c: valid": H2C + b"http2-settings: AAMAAABkAAQAAP__\r\n\r\n",
    "h2c: bad base64": H2C + b"http2-settings: a\r\n\r\n",
    "h2c: odd length": H2C + b"http2-settings: AAMAAA\r\n\r\n",
    "h2c: bad values": H2C + b"http2-settings: AAIAAAAC\r\n\r\n",
}
REFUSED: Final = {
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS ClientHello": CLIENT_HELLO,
    "PROXY v1": b"PROXY TCP4 192.0.2.1 192.0.2.2 5 6\r\nGET / HTTP/1.1\r\nhost: h\r\n\r\n",
    "PROXY v2": b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12),
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nhost: h\r\n\r\n",
    "HTTP/9.9": b"GET / HTTP/9.9\r\nhost: h\r\n\r\n",
    "CONNECT": b"CONNECT host:443 HTTP/1.1\r\nhost: host:443\r\n\r\n\x16\x03\x01early",
    "TRACE": b"TRACE / HTTP/1.1\r\nhost: h\r\n\r\n",
    "a method in lower case": b"get / HTTP/1.1\r\nhost: h\r\n\r\n",
    "a method of 265 characters": b"A" * 265 + b" / HTTP/1.1\r\nhost: h\r\n\r\n",
    "bytes of no protocol": b"\x00" * 5000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("request_", ANSWERED_IN_HTTP_1.values(), ids=ANSWERED_IN_HTTP_1.keys())
async def test_an_upgrade_is_answered_in_http_1(peer: Peer, request_: bytes) -> None:
    """A request for another protocol gets a plain answer, and the next client is served."""
    stream = await peer.connect()
    async with stream:
        await stream.send_all(request_)
        answer = await stream.receive_some(65536)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"upgrade" not in answer.lower()
    assert await peer.is_serving()
    await peer.wait_until_quiet()


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED.keys())
async def test_another_protocol_is_refused_and_closed(peer: Peer, request_: bytes) -> None:
    """Bytes that are not HTTP/1.0 or 1.1 get one 400 and a close; the next client is served."""
    answer = await peer.exchange(request_)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.lower().count(b"connection: close") == 1
    assert await peer.is_serving()
    await peer.wait_until_quiet()


async def test_all_at_once_harm_nobody(peer: Peer) -> None:
    """One listener survives the whole corpus, and serves after each request of it."""
    for request_ in (*ANSWERED_IN_HTTP_1.values(), *REFUSED.values()):
        async with await peer.connect() as stream:
            await stream.send_all(request_)
            await stream.receive_some(1)
        assert await peer.is_serving()
    await peer.wait_until_quiet()


async def test_crashers_end_only_their_connection(server_files: ServerFiles) -> None:
    """Every request of the corpus is answered or refused as it is without TLS."""
    async with serving_tls(gateway(), server_files) as peer:
        for name, request in ANSWERED_IN_HTTP_1.items():
            answer = await peer.exchange(request + b"\r\nconnection: close\r\n\r\n")
            assert answer.startswith(b"HTTP/1."), name
        for name, request in REFUSED.items():
            answer = await peer.exchange(request)
            assert answer.startswith(b"HTTP/1.1 4"), name
            assert answer.endswith(b"<close_notify>"), name
        assert await peer.is_serving()
        await peer.wait_until_quiet()
    assert peer.refused.count("tls_handshake") == 0
