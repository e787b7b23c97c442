"""A TCP connection whose reads and writes go straight to the kernel.

A stream of tokens is a wait, a read and a write, a thousand times. AnyIO's stream first tries to
read, in vain, and then waits; it guards each call; and its write takes a turn of the event loop
even when the kernel accepts the bytes at once. Bytes that the kernel does not accept are left to
AnyIO's stream. The wait is Trio's, because AnyIO needs longer to find out which library runs.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import trio
from anyio.abc import ByteStream, SocketAttribute


class Wrapping(ByteStream):
    """Wraps a stream on a socket; subclasses read and write."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._socket = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - not Django's

    def is_quiet(self) -> bool:
        """Return True if the socket has nothing to read: neither bytes nor the end."""
        look = select.poll()
        look.register(self._socket.fileno(), select.POLLIN)
        return not look.poll(0)

    async def send_eof(self) -> None:
        """Half-close; the gateway never does."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the stream below."""
        await self._stream.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """The attributes of the stream below."""
        return self._stream.extra_attributes


class PlainStream(Wrapping):
    """The TCP connection; one task at a time may read, and one may write."""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Read available bytes, waiting for them; always takes a turn of the event loop."""
        try:
            await trio.lowlevel.wait_readable(self._socket)
        except trio.ClosedResourceError:
            raise anyio.ClosedResourceError from None
        except trio.BusyResourceError:
            raise anyio.BusyResourceError("reading from") from None
        try:
            data = os.read(self._socket.fileno(), max_bytes)
        except BlockingIOError:
            return await self._stream.receive(max_bytes)
        except OSError as error:
            raise anyio.BrokenResourceError from error
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        """Write all; takes no turn of the event loop if the kernel accepts all at once."""
        try:
            # Ask for the descriptor each time: that of a closed socket may belong to another file.
            sent = os.write(self._socket.fileno(), item)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise anyio.BrokenResourceError from error
        if sent < len(item):
            await self._stream.send(item[sent:])
