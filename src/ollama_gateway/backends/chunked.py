"""A chunked body (RFC 9112, 7.1) taken apart: what it carries, and where it ends.

h11 makes three events of each chunk, which cost more than all else that happens to a token on its
way. This accepts what h11 accepts: sizes of up to 20 hexadecimal digits, extensions and trailers,
which are dropped; nothing else, and no other end of a line than CR LF.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

MAX_LINE: Final = 4096
"""Bytes of a line with a size."""
MAX_TRAILERS: Final = 16 * 1024
"""Bytes of all trailers."""
_PLAIN_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,20})\r\n")
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,20})(?:;[^\x00\r\n]*)?[ \t]*")


class ChunkedBodyBroken(Exception):
    """What comes is no chunked body."""


class ChunkedBody:
    """One body, fed as its bytes arrive; each byte is looked at once, however small the chunks."""

    ends_with_connection: ClassVar[bool] = False

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        """How much of the buffer was taken."""
        self._left = 0
        """Bytes of the current chunk that are still to come."""
        self._is_behind_chunk = False
        """Whether the line end of a chunk is still to come."""
        self._is_behind_last = False
        """Whether only trailers are still to come."""
        self._trailers = 0
        self._is_broken = False
        self.is_complete = False

    @property
    def rest(self) -> bytes:
        """What came behind the end of a complete body."""
        return self._buffer

    def feed(self, data: bytes) -> bytes:
        """What `data` adds to the body; b"" where that is nothing yet, or at its end.

        Raises ChunkedBodyBroken, once all that was sound has been handed on.
        """
        if not data and not self._is_broken:
            return b""
        self._buffer += data
        parts: list[bytes] = []
        try:
            if not (self._left or self._is_behind_chunk or self._is_behind_last or self._is_broken):
                self._take_whole_chunks(parts)
            while not self.is_complete and self._step(parts):
                pass
        except ChunkedBodyBroken:
            self._is_broken = True
        self._buffer, self._at = self._buffer[self._at :], 0
        if self._is_broken and not parts:
            raise ChunkedBodyBroken
        return b"".join(parts)

    def _take_whole_chunks(self, parts: list[bytes]) -> None:
        """Take those that are all there, as most are; what is odd is left to `_step`."""
        while (found := _PLAIN_SIZE.match(self._buffer, self._at)) is not None:
            start = found.end()
            end = start + int(found[1], 16)
            if start == end or not self._buffer.startswith(b"\r\n", end):
                return
            parts.append(self._buffer[start:end])
            self._at = end + 2

    def _step(self, parts: list[bytes]) -> bool:
        """Take the next thing out of the buffer; whether there was enough for it."""
        if self._is_broken:
            raise ChunkedBodyBroken
        if self._left:
            return self._take_data(parts)
        if self._is_behind_chunk and not b"\r\n".startswith(self._buffer[self._at : self._at + 2]):
            raise ChunkedBodyBroken
        line = self._line()
        if line is None:
            return False
        if self._is_behind_chunk:
            self._is_behind_chunk = False
        elif self._is_behind_last:
            self.is_complete = not line
        else:
            self._begin(line)
        return True

    def _begin(self, line: bytes) -> None:
        found = _SIZE.fullmatch(line)
        if found is None:
            raise ChunkedBodyBroken
        self._left = int(found[1], 16)
        self._is_behind_last = self._left == 0

    def _take_data(self, parts: list[bytes]) -> bool:
        data = self._buffer[self._at : self._at + self._left]
        if not data:
            return False
        self._at += len(data)
        self._left -= len(data)
        self._is_behind_chunk = not self._left
        parts.append(data)
        return True

    def _line(self) -> bytes | None:
        """The next line without its end; None while it is not whole."""
        end = self._buffer.find(b"\r\n", self._at)
        size = (len(self._buffer) if end < 0 else end) - self._at
        self._trailers += size if end >= 0 and self._is_behind_last else 0
        if size > MAX_LINE or self._trailers > MAX_TRAILERS:
            raise ChunkedBodyBroken
        if end < 0:
            return None
        line, self._at = self._buffer[self._at : end], end + 2
        return line
