"""What a connection has given and nobody has read yet, and the heads of HTTP/1 that it begins with.

h11 is given a head when it is whole. So what comes behind it stays here, where it is copied for
nobody; each byte is looked at once, however small the segments that it came in; and what would keep
h11 busy is refused before: many lines, and white space before a byte that no line may have. (It
tries every division of white space between a name and its value: 32 KiB took it 2.7 s.)
"""

from __future__ import annotations

import re
from typing import Final

MAX_HEAD_LINES: Final = 256
"""Lines of a head; each costs h11 some 2 us."""
SMALL_HEAD: Final = 512
"""Bytes of a head that h11 is done with within a millisecond, whatever is in it."""

_END: Final = re.compile(rb"\n\r?\n")
_NO_HTTP: Final = "the request is not valid HTTP"
_FIRST_PRINTABLE: Final = 0x21


class HeadBroken(Exception):
    """What comes is no head."""


class HeadTooLarge(HeadBroken):
    """A head has too many bytes or lines, or does not end."""


class ReceiveBuffer:
    """Bytes in the order in which they came.

    Args:
        most: bytes that a head may have.

    """

    def __init__(self, most: int) -> None:
        self._bytes = bytearray()
        self._most = most
        self._searched = 0
        """Where an end of a head may begin."""

    def __len__(self) -> int:
        """How many there are."""
        return len(self._bytes)

    def put(self, data: bytes) -> None:
        """Put what came behind the rest."""
        self._bytes += data

    def take(self, size: int) -> bytes:
        """Take up to so many bytes out."""
        self._searched = 0
        if size >= len(self._bytes):
            taken = bytes(self._bytes)
            self._bytes.clear()
        else:
            taken = bytes(self._bytes[:size])
            del self._bytes[:size]
        return taken

    def take_head(self) -> bytes | None:
        """Take a head out; None where it is not whole yet. Raises HeadBroken."""
        waiting = self._bytes
        if not waiting:
            return None
        found = _END.search(waiting, self._searched)
        size = found.start() if found else len(waiting)
        if size > self._most:
            raise HeadTooLarge
        if waiting[0] < _FIRST_PRINTABLE:
            raise HeadBroken(_NO_HTTP)
        if found is None:
            self._searched = max(0, size - 2)
            return None
        head = self.take(found.end())
        if size > SMALL_HEAD:
            _check(head)
        return head


def _check(head: bytes) -> None:
    """Refuse what h11 takes for a fault wherever it stands, and many lines."""
    if head.count(b"\n") > MAX_HEAD_LINES:
        raise HeadTooLarge
    has_odd = b"\x00" in head or b"\x0b" in head or b"\x0c" in head
    if has_odd or head.count(b"\r") > head.count(b"\r\n"):
        raise HeadBroken(_NO_HTTP)
