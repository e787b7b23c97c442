"""TLS on an accepted socket, in the shape of the plain stream that a connection reads and writes.

A connection ends in one of two ways, and TLS must not blur them. `send_eof` says that all was said:
TLS's close_notify, then the half-close of the socket below, which TLS alone does not have. `aclose`
says nothing at all, so that an answer that was cut ends, for whoever reads it, in the middle.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

import attrs
import trio


@attrs.frozen(eq=False)
class _Kept(trio.abc.Stream):
    """The socket's stream as TLS sees it: closing TLS says goodbye and leaves the socket open."""

    _below: trio.SocketStream

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._below.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._below.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._below.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class ServerTLSStream(trio.abc.HalfCloseableStream):
    """The server's side of TLS over a socket.

    The handshake is made by the first `receive_some`.

    Args:
        below: the accepted socket's stream.
        context: the certificate, and how TLS is spoken.
        refused: called, once, when what a client sends is no handshake of ours. One that leaves
            before it has said anything is no refusal.

    """

    def __init__(
        self, below: trio.SocketStream, context: ssl.SSLContext, refused: Callable[[], None]
    ) -> None:
        self._below = below
        self._tls = trio.SSLStream(_Kept(below), context, server_side=True)
        self._refused = refused
        self._is_open = False
        self._has_said_all = False

    @property
    def socket(self) -> trio.socket.SocketType:
        """The socket below."""
        return self._below.socket

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """Set an option of the socket below."""
        self._below.setsockopt(level, option, value)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Read what the client says; after `send_eof` its bytes as they come, which nobody reads.

        Empty where the client has ended, with TLS's word for it or without.
        """
        if self._has_said_all:
            return await self._below.receive_some(max_bytes)
        if not self._is_open:
            await self._shake_hands()
        return await self._tls.receive_some(max_bytes)

    async def _shake_hands(self) -> None:
        try:
            await self._tls.do_handshake()
        except trio.BrokenResourceError as broken:
            cause = broken.__cause__
            if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
                self._refused()
            raise
        self._is_open = True

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; waits until the kernel has taken them."""
        await self._tls.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the kernel takes bytes again."""
        await self._tls.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Say that nothing more will come; a client that has not shaken hands is told nothing."""
        self._has_said_all = True
        if self._is_open:
            await self._tls.aclose()
        await self._below.send_eof()

    async def aclose(self) -> None:
        """Close the socket, without a word."""
        await self._below.aclose()
