"""A pair of byte streams in memory that behave as the two ends of a socket.

Built on AnyIO's memory object streams. They are bounded (chunks of at most 4 KiB, 16 of them in
each direction), so a reader that does not read blocks the writer. Closing one end gives the other
`EndOfStream` once it has read everything sent; aborting it gives `BrokenResourceError` at once, as
a reset does. There is no clock and no thread: under Trio's autojump clock it takes no time.
"""

from __future__ import annotations

import anyio
import anyio.lowlevel
import attrs
from anyio.abc import ByteStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

PIECE = 4096
PIECES = 16


@attrs.define(eq=False)
class _Line:
    """State shared by both ends: whether one of them was reset."""

    is_reset: bool = False


@attrs.define(eq=False, slots=False)
class MemoryByteStream(ByteStream):
    """One end of a pair; made by `memory_pair`."""

    _sender: MemoryObjectSendStream[bytes]
    _receiver: MemoryObjectReceiveStream[bytes]
    _line: _Line
    _rest: bytes = b""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Receive available bytes, at most `max_bytes`."""
        if not self._rest:
            self._rest = await self._next_piece()
        data, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return data

    async def _next_piece(self) -> bytes:
        try:
            piece = await self._receiver.receive()
        except anyio.EndOfStream:
            if self._line.is_reset:
                raise anyio.BrokenResourceError from None
            raise
        if self._line.is_reset:
            raise anyio.BrokenResourceError
        return piece

    async def send(self, item: bytes) -> None:
        """Send everything; waits while the other end has 64 KiB unread."""
        for start in range(0, len(item), PIECE):
            await self._sender.send(bytes(item[start : start + PIECE]))

    async def send_eof(self) -> None:
        """Close the sending half only."""
        await self._sender.aclose()

    def is_peer_gone(self) -> bool:
        """Return whether the other end has closed or reset; unread bytes hide a close."""
        way = self._receiver.statistics()
        is_read = not self._rest and not way.current_buffer_used
        return self._line.is_reset or (is_read and not way.open_send_streams)

    def close(self) -> None:
        """Close both halves without a checkpoint."""
        self._sender.close()
        self._receiver.close()

    async def aclose(self) -> None:
        """Close both halves."""
        self.close()
        await anyio.lowlevel.checkpoint()

    async def abort(self) -> None:
        """Close both halves as a TCP reset does: unread bytes are lost."""
        self._line.is_reset = True
        await self.aclose()


def memory_pair() -> tuple[MemoryByteStream, MemoryByteStream]:
    """Make two connected ends."""
    line = _Line()
    one_out, other_in = anyio.create_memory_object_stream[bytes](PIECES)
    other_out, one_in = anyio.create_memory_object_stream[bytes](PIECES)
    one = MemoryByteStream(one_out, one_in, line)
    return one, MemoryByteStream(other_out, other_in, line)
