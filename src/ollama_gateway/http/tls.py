"""TLS on an accepted socket, with the interface of the plain stream that a connection uses.

A connection ends in one of two ways, and TLS must keep them apart. `send_eof` marks the regular
end: it sends TLS's close_notify, then half-closes the socket below, which TLS alone cannot do.
`aclose` sends nothing, so that a client can tell that a cut answer was cut.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

import attrs
import trio


@attrs.frozen(eq=False)
class _SocketBelow(trio.abc.Stream):
    """The socket's stream as TLS sees it: closing TLS sends close_notify but closes no socket."""

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
    """The server side of TLS over a socket.

    The first `receive_some` performs the handshake.

    Args:
        below: the accepted socket's stream.
        context: the certificate and the TLS options.
        refused: called once when the handshake fails. A client that leaves during the handshake
            does not count.

    """

    def __init__(
        self, below: trio.SocketStream, context: ssl.SSLContext, refused: Callable[[], None]
    ) -> None:
        self._below = below
        self._tls = trio.SSLStream(_SocketBelow(below), context, server_side=True)
        self._refused = refused
        self._is_open = False
        self._has_sent_eof = False

    @property
    def socket(self) -> trio.socket.SocketType:
        """The socket below."""
        return self._below.socket

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """Set an option of the socket below."""
        self._below.setsockopt(level, option, value)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Read and decrypt; after `send_eof` return raw bytes, which are only thrown away.

        Returns b"" when the client has ended, with a close_notify or without.
        """
        if self._has_sent_eof:
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
        """Send bytes; wait until the kernel has taken them."""
        await self._tls.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the kernel takes bytes again."""
        await self._tls.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Half-close; after a completed handshake, send close_notify first."""
        self._has_sent_eof = True
        if self._is_open:
            await self._tls.aclose()
        await self._below.send_eof()

    async def aclose(self) -> None:
        """Close the socket without a close_notify."""
        await self._below.aclose()
