"""Bytes received on a connection but not read yet, and the HTTP/1 heads that they begin with.

h11 gets a head when it is complete. So the bytes behind a head stay here without being copied, and
each byte is searched once, however small the segments it came in. Heads that would keep h11 busy
are refused here: many lines, and whitespace before a byte that no line may hold. (h11 tries every
division of whitespace between a name and its value: 32 KiB took it 2.7 s.)
"""

from __future__ import annotations

import re
from typing import Final

MAX_HEAD_LINES: Final = 256
"""Lines of a head; each costs h11 some 2 us."""
SMALL_HEAD: Final = 512
"""Bytes of a head that h11 parses within a millisecond, whatever it holds."""

_END: Final = re.compile(rb"\n\r?\n")
_NO_HTTP: Final = "the request is not valid HTTP"
_FIRST_PRINTABLE: Final = 0x21


class HeadBroken(Exception):
    """The bytes are no head."""


class HeadTooLarge(HeadBroken):
    """A head has too many bytes or lines, or does not end."""


class ReceiveBuffer:
    """Received bytes in order.

    Args:
        most: bytes that a head may have.

    """

    def __init__(self, most: int) -> None:
        self._bytes = bytearray()
        self._most = most
        self._searched = 0
        """Offset from which the end of a head is searched."""

    def __len__(self) -> int:
        """Return the number of bytes."""
        return len(self._bytes)

    def put(self, data: bytes) -> None:
        """Append received bytes."""
        self._bytes += data

    def take(self, size: int) -> bytes:
        """Remove and return up to `size` bytes."""
        self._searched = 0
        if size >= len(self._bytes):
            taken = bytes(self._bytes)
            self._bytes.clear()
        else:
            taken = bytes(self._bytes[:size])
            del self._bytes[:size]
        return taken

    def take_head(self) -> bytes | None:
        """Remove and return a head; None while it is incomplete. Raises HeadBroken."""
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
    """Refuse bytes that h11 refuses anywhere in a head, and too many lines."""
    if head.count(b"\n") > MAX_HEAD_LINES:
        raise HeadTooLarge
    has_odd = b"\x00" in head or b"\x0b" in head or b"\x0c" in head
    if has_odd or head.count(b"\r") > head.count(b"\r\n"):
        raise HeadBroken(_NO_HTTP)
