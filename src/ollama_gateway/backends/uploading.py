"""A request's body on its way out: whole, or in pieces as they come from somewhere else.

What is whole goes out with its length. A stream goes out with the length that its request's
`Content-Length` says, or chunked where there is none. It is asked for a piece when the one before
it was written, so its source is read no faster than the backend reads.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final, cast

import attrs
import httpx

from ollama_gateway.wire.large import RequestBody, pieces_of

ONE_WRITE: Final = 64 * 1024
"""Bytes: a head and body up to this leave in one write; a larger body goes in pieces of it."""

Headers = list[tuple[bytes, bytes]]


class BodyFailed(Exception):
    """The source of a streamed body failed, and the backend is not to blame; `error` says how."""

    def __init__(self, error: Exception) -> None:
        super().__init__("the request's body broke off")
        self.error = error


@attrs.frozen
class OutgoingBody:
    """A body to be sent."""

    content: RequestBody = attrs.field(repr=False)
    source: AsyncIterator[bytes] | None = None
    """Where it comes from, if it is streamed: then `content` is empty."""
    length: int | None = None
    """Bytes; None where that is not known."""

    @classmethod
    def of(cls, request: httpx.Request) -> OutgoingBody:
        """The body of a request."""
        if isinstance(request.stream, httpx.ByteStream):
            return cls(request.content, length=len(request.content))
        length = request.headers.get("content-length")
        source = aiter(cast("httpx.AsyncByteStream", request.stream))
        return cls(b"", source, None if length is None else int(length))

    @property
    def framing(self) -> bytes:
        """The header that says where it ends, as a line."""
        if self.length is None:
            return b"Transfer-Encoding: chunked\r\n"
        return b"Content-Length: %d\r\n" % self.length

    async def writes(self, head: bytes) -> AsyncGenerator[bytes]:
        """The request in pieces, each to be written at once. Raises BodyFailed."""
        yield head
        if self.source is None:
            for piece in pieces_of(self.content, ONE_WRITE):
                yield piece
            return
        async for piece in self.source:
            if piece and self.length is None:
                yield b"%x\r\n%b\r\n" % (len(piece), piece)
            elif piece:  # an empty chunk would end the body
                yield piece
        if self.length is None:
            yield b"0\r\n\r\n"
