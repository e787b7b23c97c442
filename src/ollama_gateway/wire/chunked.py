"""Decode a chunked body (RFC 9112, 7.1), and find its end.

h11 makes three events of each chunk, which cost more than everything else that happens to a token
on its way, and 12 us for a chunk of one byte. This decoder reads chunks as h11 does: sizes of up to
20 hexadecimal digits, extensions, and only CR LF as a line end. It differs in trailers, which are
dropped, so that their values do not matter: h11 refuses a `Content-Length` there that is no number,
and accepts a folded line, which this decoder refuses. It also refuses a body that is nearly all
framing. A body that both accept ends at the same byte.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

MAX_LINE: Final = 4096
"""Bytes of a size line."""
MAX_TRAILERS: Final = 16 * 1024
"""Bytes of all trailers together."""
SPARE_FRAMING: Final = 32 * 1024
FRAMING_PER_BYTE: Final = 16
"""Bytes of framing that a body may have: a ratio to the bytes carried, plus a spare amount.

A chunk of one byte needs five (Go's net/http refuses excess in the same way: CVE-2023-39326).
"""
_TINY_DATA: Final = b"|".join(
    rb"(?<=[%x%X]\r\n).{%d}" % (size, size, size) for size in range(1, 16)
)
_TINY_CHUNK: Final = re.compile(rb"[1-9A-Fa-f]\r\n(%b)\r\n|.+" % _TINY_DATA, re.DOTALL)
"""A chunk whose size has one digit, or all the rest: each match begins where the last one ends."""
_EXTENSION: Final = MAX_LINE - 32
_SIZE_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,20})(?:;[^\x00\r\n]{0,%d}+|[ \t]{0,%d}+)\r\n" % (_EXTENSION, _EXTENSION)
)
"""Possessive quantifiers: others would try every division of the whitespace."""
_TRAILER: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*")


class ChunkedBodyBroken(Exception):
    """The bytes are no chunked body."""


class LineTooLong(ChunkedBodyBroken):
    """A size line or the trailers are too long."""


class ChunkedBody:
    """Decodes one body as it arrives; each byte is looked at once, however small the chunks."""

    ends_with_connection: ClassVar[bool] = False

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        """Bytes of the buffer that were consumed."""
        self._left = 0
        """Bytes of the current chunk still to come."""
        self._is_behind_chunk = False
        """Whether the line end after a chunk's data is still to come."""
        self._is_behind_last = False
        """Whether only trailers are still to come."""
        self._trailers = 0
        self._spare = SPARE_FRAMING
        """Bytes of framing allowed before the next byte of the body."""
        self._broken: ChunkedBodyBroken | None = None
        self.is_complete = False

    @property
    def rest(self) -> bytes:
        """The bytes behind the end of a complete body."""
        return self._buffer

    def feed(self, data: bytes) -> bytes:
        """Return the bytes that `data` adds to the body; b"" if there are none yet, or at the end.

        Raises ChunkedBodyBroken, but only after all bytes before the fault were returned.
        """
        if self._broken is not None:
            raise self._broken
        if not data:
            return b""
        self._buffer += data
        parts: list[bytes] = []
        try:
            while not self.is_complete:
                if not (self._left or self._is_behind_chunk or self._is_behind_last):
                    self._take_whole_chunks(parts)
                if not self._step(parts):
                    break
        except ChunkedBodyBroken as error:
            self._broken = error
        body = b"".join(parts)
        self._weigh(self._at, len(body))
        self._buffer, self._at = self._buffer[self._at :], 0
        if self._broken is not None and not body:
            raise self._broken
        return body

    def _weigh(self, taken: int, carried: int) -> None:
        self._spare += carried * (FRAMING_PER_BYTE + 1) - taken
        if self._spare < 0 and not self.is_complete and self._broken is None:
            self._broken = ChunkedBodyBroken("too much framing for its bytes")

    def _take_whole_chunks(self, parts: list[bytes]) -> None:
        """Take complete chunks, the common case; `_step` handles everything else."""
        while (found := _SIZE_LINE.match(self._buffer, self._at)) is not None:
            start = found.end()
            end = start + int(found[1], 16)
            if start == end or not self._buffer.startswith(b"\r\n", end):
                return
            parts.append(self._buffer[start:end])
            is_tiny, self._at = start - self._at == len(b"1\r\n"), end + 2
            if is_tiny:
                self._take_tiny_chunks(parts)

    def _take_tiny_chunks(self, parts: list[bytes]) -> None:
        """Take consecutive tiny chunks: a tenth of a microsecond each."""
        found = _TINY_CHUNK.findall(self._buffer, self._at)
        if found and not found[-1]:
            found.pop()  # the last match is all the rest
        self._at += sum(map(len, found)) + len(b"1\r\n\r\n") * len(found)
        parts += found

    def _step(self, parts: list[bytes]) -> bool:
        """Take the next element from the buffer; False if it is incomplete."""
        if self._left:
            return self._take_data(parts)
        if self._is_behind_chunk and not b"\r\n".startswith(self._buffer[self._at : self._at + 2]):
            raise ChunkedBodyBroken("a chunk does not end in CR LF")
        line = self._line()
        if line is None:
            return False
        if self._is_behind_chunk:
            self._is_behind_chunk = False
        elif self._is_behind_last:
            self._read_trailer(line)
        else:
            self._begin(line)
        return True

    def _begin(self, line: bytes) -> None:
        found = _SIZE_LINE.fullmatch(line)
        if found is None:
            raise ChunkedBodyBroken("the size of a chunk is malformed")
        self._left = int(found[1], 16)
        self._is_behind_last = self._left == 0

    def _read_trailer(self, line: bytes) -> None:
        text = line[:-2]
        self.is_complete = not text
        if text and not _TRAILER.fullmatch(text):
            raise ChunkedBodyBroken("a trailer is malformed")

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
        """Return the next line with its end; None while it is incomplete."""
        end = self._buffer.find(b"\r\n", self._at)
        size = (len(self._buffer) if end < 0 else end) - self._at
        self._trailers += size if end >= 0 and self._is_behind_last else 0
        if size > MAX_LINE or self._trailers > MAX_TRAILERS:
            raise LineTooLong
        if end < 0:
            return None
        line, self._at = self._buffer[self._at : end + 2], end + 2
        return line
