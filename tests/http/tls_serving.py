"""Run a listener with TLS, and clients that speak it."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from ollama_gateway.certificates import RenewedContext
from ollama_gateway.http.app_tasks import ASGIApp
from ollama_gateway.http.connection import ConnectionLimits
from ollama_gateway.http.listener import Listener
from tests.http.serving import PLAIN_REQUEST, Peer, serving
from tests.support.certificates import HOST, ServerFiles

TLSStream = trio.SSLStream[trio.SocketStream]


@attrs.define
class TLSPeer:
    """A listener under test that speaks TLS, and how to reach it."""

    plain: Peer
    server_files: ServerFiles
    streams: list[TLSStream] = attrs.field(factory=list)
    """Client streams, closed with the block."""

    @property
    def listener(self) -> Listener:
        """The listener."""
        return self.plain.listener

    @property
    def has_ended(self) -> trio.Event:
        """The event that is set when `serve()` has returned."""
        return self.plain.has_ended

    @property
    def refused(self) -> list[str]:
        """Why clients were refused before any request was understood."""
        return [error.reason for error in self.plain.refused]

    async def connect(self, context: ssl.SSLContext | None = None) -> TLSStream:
        """Open a client connection and perform its handshake."""
        below = await self.plain.connect()
        stream = trio.SSLStream(below, context or self.server_files.client, server_hostname=HOST)
        self.streams.append(stream)
        await stream.do_handshake()
        return stream

    async def exchange(self, data: bytes) -> bytes:
        """Send bytes and read to the end, which is shown as in `read_to_end`."""
        stream = await self.connect()
        with contextlib.suppress(trio.BrokenResourceError):  # it may end before it has read all
            await stream.send_all(data)
        answer = await read_to_end(stream)
        await trio.aclose_forcefully(stream)
        return answer

    async def read_to_end(self, stream: trio.abc.ReceiveStream) -> bytes:
        """Read as `read_to_end` does."""
        return await read_to_end(stream)

    async def wait_until_quiet(self) -> None:
        """Wait until no connection and no task of a connection is left."""
        await self.plain.wait_until_quiet()

    async def is_serving(self) -> bool:
        """Return True if a plain request on a new connection gets a whole answer."""
        answer = await self.exchange(PLAIN_REQUEST)
        return answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"<close_notify>")


async def read_to_end(stream: trio.abc.ReceiveStream) -> bytes:
    """Read to the end, which is shown as `<close_notify>` or `<cut>`."""
    data = b""
    try:
        while chunk := await stream.receive_some():
            data += chunk
    except trio.BrokenResourceError:
        return data + b"<cut>"
    return data + b"<close_notify>"


@asynccontextmanager
async def serving_tls(
    app: ASGIApp,
    server_files: ServerFiles,
    limits: ConnectionLimits | None = None,
    max_connections: int = 1000,
) -> AsyncIterator[TLSPeer]:
    """Run a listener as `serving` does, with TLS."""
    async with serving(app, limits, max_connections) as plain:
        plain.listener.certificate = RenewedContext.of_listener(server_files.cert, server_files.key)
        peer = TLSPeer(plain, server_files)
        yield peer
        for stream in peer.streams:
            await trio.aclose_forcefully(stream)
