"""Server ends of connections that notice events late."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
import attrs
from anyio.abc import ByteStream

from ollama_gateway.simulator import MemoryByteStream, memory_pair


class Lagging(MemoryByteStream):
    """An end whose writer notices a second late that its bytes went out."""

    async def send(self, item: bytes) -> None:
        """Send, then wait."""
        await super().send(item)
        await anyio.sleep(1)


class Deaf(MemoryByteStream):
    """An end whose reader never notices that the other one has closed."""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Receive bytes, and wait for ever for the end."""
        try:
            return await super().receive(max_bytes)
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            await anyio.sleep_forever()
            raise


@attrs.define(eq=False, slots=False)
class DeafSocket(ByteStream):
    """A socket whose reader never notices that the other end has closed."""

    _inner: ByteStream

    @property
    def extra_attributes(self) -> Mapping[Any, Any]:
        """Return those of the socket."""
        return self._inner.extra_attributes

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Receive bytes, and wait for ever for the end."""
        try:
            return await self._inner.receive(max_bytes)
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            await anyio.sleep_forever()
            raise

    async def send(self, item: bytes) -> None:
        """Send everything."""
        await self._inner.send(item)

    async def send_eof(self) -> None:
        """Close the sending half only."""
        await self._inner.send_eof()

    async def aclose(self) -> None:
        """Close the socket."""
        await self._inner.aclose()


def pair_with(kind: type[MemoryByteStream]) -> tuple[MemoryByteStream, MemoryByteStream]:
    """Make a client's end, and a server's end of that kind."""
    client, server = memory_pair()
    return client, kind(server._sender, server._receiver, server._line)
