"""A growing byte buffer that is never copied as a whole: for 62 MiB that would take 40 ms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

BLOCK: Final = 1024 * 1024
"""Bytes of a block; with many small ones the allocator would never release some of the memory."""


@attrs.define(eq=False)
class Blocks:
    """Bytes that can be appended to and read in ranges."""

    _blocks: list[bytearray] = attrs.field(factory=list, init=False, repr=False)
    _size: int = attrs.field(default=0, init=False)

    def __len__(self) -> int:
        """Return the number of bytes."""
        return self._size

    def append(self, chunk: bytes) -> None:
        """Append a chunk."""
        self._size += len(chunk)
        if self._size <= BLOCK and not self._blocks:
            self._blocks.append(bytearray(chunk))  # usually this is the whole body
            return
        while chunk:
            if not self._blocks or len(self._blocks[-1]) == BLOCK:
                self._blocks.append(bytearray())
            room = BLOCK - len(self._blocks[-1])
            self._blocks[-1] += chunk[:room]
            chunk = chunk[room:]

    def read(self, start: int, end: int) -> bytes:
        """Return a range as one bytes object."""
        if end <= BLOCK and self._blocks:
            return bytes(memoryview(self._blocks[0])[start:end])
        return b"".join(self.chunks(start, end, BLOCK))

    def chunks(self, start: int, end: int, size: int) -> Iterator[bytes]:
        """Yield a range in chunks of at most `size` bytes."""
        end = min(end, self._size)
        while start < end:
            block, place = divmod(start, BLOCK)
            stop = min(place + size, place + end - start, BLOCK)
            yield bytes(memoryview(self._blocks[block])[place:stop])
            start += stop - place
