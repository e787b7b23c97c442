"""A TCP connection whose reads and writes go straight to the kernel.

A stream of tokens is a wait, a read and a write, a thousand times. AnyIO's stream tries to read
before it waits, in vain, and guards each call; its write takes a turn of the event loop though the
kernel takes the bytes at once. What does not fit goes on in AnyIO's stream below. The wait is
Trio's own, as to find out which library runs costs AnyIO more than to wait.
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
    """A stream round another one on a socket, which does all but reading and writing."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._socket = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - not Django's

    def is_quiet(self) -> bool:
        """Whether the socket has nothing to be read: neither words nor the end."""
        look = select.poll()
        look.register(self._socket.fileno(), select.POLLIN)
        return not look.poll(0)

    async def send_eof(self) -> None:
        """Half-close; nothing of ours does."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close it."""
        await self._stream.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """Those of the stream below."""
        return self._stream.extra_attributes


class PlainStream(Wrapping):
    """The same connection; reading is for one task at a time, and so is writing."""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """What is there, once something is; a turn of the event loop in any case."""
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
        """Write all of it; without a turn of the event loop where the kernel takes it at once."""
        try:
            # The number is asked for each time: that of a closed socket may be another's by now.
            sent = os.write(self._socket.fileno(), item)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise anyio.BrokenResourceError from error
        if sent < len(item):
            await self._stream.send(item[sent:])
