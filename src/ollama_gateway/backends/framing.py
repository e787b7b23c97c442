"""Where an answer's body ends (RFC 9112, 6.3): by its length, its chunks or its connection."""

from __future__ import annotations

from typing import ClassVar, Protocol

from ollama_gateway.backends.heads import Head
from ollama_gateway.wire.chunked import ChunkedBody

BODILESS = frozenset({204, 304})
"""Statuses of answers that have no body, whatever their headers say."""


class Body(Protocol):
    """One body, fed as its bytes arrive."""

    ends_with_connection: ClassVar[bool]
    """Whether the end of the connection is its end; for others it is a cut."""
    is_complete: bool

    @property
    def rest(self) -> bytes:
        """What came behind the end of a complete body."""
        ...

    def feed(self, data: bytes) -> bytes:
        """What `data` adds to the body; raises ChunkedBodyBroken."""
        ...


class SizedBody:
    """A body of so many bytes."""

    ends_with_connection: ClassVar[bool] = False

    def __init__(self, size: int) -> None:
        self._left = size
        self.is_complete = size == 0
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """What of `data` is in the body."""
        size = len(data)
        if size > self._left:
            self.rest += data[self._left :]
            data, size = data[: self._left], self._left
        self._left -= size
        self.is_complete = self._left == 0
        return data


class OpenBody:
    """A body that only the end of its connection ends."""

    ends_with_connection: ClassVar[bool] = True
    rest = b""

    def __init__(self) -> None:
        self.is_complete = False

    def feed(self, data: bytes) -> bytes:
        """All of it."""
        return data


def body_of(method: str, head: Head) -> Body:
    """The body behind the head of an answer to a request of this method."""
    if method == "HEAD" or head.status in BODILESS:
        return SizedBody(0)
    if b"transfer-encoding" in head.fields:
        return ChunkedBody()
    size = head.fields.get(b"content-length")
    return OpenBody() if size is None else SizedBody(int(size))
