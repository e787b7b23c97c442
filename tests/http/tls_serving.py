"""TLS in front of a listener, and clients that speak it."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio
import trustme

from ollama_gateway.certificates import Certificate
from ollama_gateway.errors import GatewayError
from ollama_gateway.http.app_tasks import ASGIApp
from ollama_gateway.http.connection import ConnectionLimits
from tests.http.serving import PLAIN_REQUEST, Peer, serving

HOST = "127.0.0.1"
TLSStream = trio.SSLStream[trio.SocketStream]


@attrs.frozen
class CertificateFiles:
    """An authority, where it leaves certificates for the listener, and who trusts it."""

    authority: trustme.CA
    cert: Path
    key: Path
    client: ssl.SSLContext

    @classmethod
    def into(cls, directory: Path) -> CertificateFiles:
        """An authority whose first certificate is in place."""
        directory.mkdir(exist_ok=True)
        authority = trustme.CA()
        client = ssl.create_default_context()
        client.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # or a cut end looks like one that was said
        authority.configure_trust(client)
        issuer = cls(authority, directory / "cert.pem", directory / "key.pem", client)
        issuer.issue()
        return issuer

    def issue(self, name: str = HOST) -> None:
        """Put another certificate and its key in place."""
        made = self.authority.issue_cert(name)
        self.key.unlink(missing_ok=True)  # another file, whatever the clock of the disk says
        made.private_key_pem.write_to_path(self.key)
        made.cert_chain_pems[0].write_to_path(self.cert)


@attrs.define
class TLSPeer:
    """A listener under test that speaks TLS, and how to reach it."""

    plain: Peer
    issuer: CertificateFiles
    refused: list[str]
    """Why something was refused that never became a request."""
    streams: list[TLSStream] = attrs.field(factory=list)
    """What was opened; closed with the block."""

    async def connect(self, context: ssl.SSLContext | None = None) -> TLSStream:
        """A new client connection, its handshake made."""
        below = await self.plain.connect()
        stream = trio.SSLStream(below, context or self.issuer.client, server_hostname=HOST)
        self.streams.append(stream)
        await stream.do_handshake()
        return stream

    async def exchange(self, data: bytes) -> bytes:
        """Send bytes and read until the other side ends; says at the end how it did."""
        stream = await self.connect()
        with contextlib.suppress(trio.BrokenResourceError):  # it may end before it has read all
            await stream.send_all(data)
        answer = await read_to_end(stream)
        await trio.aclose_forcefully(stream)
        return answer

    async def is_serving(self) -> bool:
        """Whether a plain request on a new connection is answered, to its end."""
        answer = await self.exchange(PLAIN_REQUEST)
        return answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"<close_notify>")


async def read_to_end(stream: TLSStream) -> bytes:
    """All that comes until the end, and whether TLS said that it was one."""
    data = b""
    try:
        while chunk := await stream.receive_some(65536):
            data += chunk
    except trio.BrokenResourceError:
        return data + b"<cut>"
    return data + b"<close_notify>"


@asynccontextmanager
async def serving_tls(
    app: ASGIApp,
    issuer: CertificateFiles,
    limits: ConnectionLimits | None = None,
    max_connections: int = 1000,
) -> AsyncIterator[TLSPeer]:
    """As `serving`, with TLS."""
    refused: list[str] = []

    async with serving(app, limits, max_connections) as plain:
        usual = plain.listener.render_early_error

        def render_early_error(error: GatewayError) -> tuple[list[tuple[bytes, bytes]], bytes]:
            refused.append(error.reason)
            return usual(error)

        plain.listener.render_early_error = render_early_error
        plain.listener.certificate = Certificate(issuer.cert, issuer.key)
        peer = TLSPeer(plain, issuer, refused)
        yield peer
        for stream in peer.streams:
            await trio.aclose_forcefully(stream)
