"""Finds the end of an answer's body (RFC 9112, 6.3): by length, chunks or end of connection."""

from __future__ import annotations

from typing import ClassVar, Protocol

from ollama_gateway.backends.heads import Head
from ollama_gateway.wire.chunked import ChunkedBody

BODILESS = frozenset({204, 304})
"""Statuses of answers without a body, whatever their headers say."""


class Body(Protocol):
    """Receives the bytes of one body as they arrive."""

    ends_with_connection: ClassVar[bool]
    """Whether the end of the connection ends the body; otherwise it cuts it short."""
    is_complete: bool

    @property
    def rest(self) -> bytes:
        """Bytes after the end of a complete body."""
        ...

    def feed(self, data: bytes) -> bytes:
        """Return the bytes of the body in `data`; raises ChunkedBodyBroken."""
        ...


class SizedBody:
    """A body of known size."""

    ends_with_connection: ClassVar[bool] = False

    def __init__(self, size: int) -> None:
        self._left = size
        self.is_complete = size == 0
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Return the bytes of the body in `data`."""
        size = len(data)
        if size > self._left:
            self.rest += data[self._left :]
            data, size = data[: self._left], self._left
        self._left -= size
        self.is_complete = self._left == 0
        return data


class OpenBody:
    """A body that the end of its connection ends."""

    ends_with_connection: ClassVar[bool] = True
    rest = b""

    def __init__(self) -> None:
        self.is_complete = False

    def feed(self, data: bytes) -> bytes:
        """Return `data`."""
        return data


def body_of(method: str, head: Head) -> Body:
    """Return the body that follows the head of an answer to a request of this method."""
    if method == "HEAD" or head.status in BODILESS:
        return SizedBody(0)
    if b"transfer-encoding" in head.fields:
        return ChunkedBody()
    size = head.fields.get(b"content-length")
    return OpenBody() if size is None else SizedBody(int(size))
