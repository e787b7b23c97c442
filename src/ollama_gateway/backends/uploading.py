"""The body of a request to a backend: whole, or streamed from a source.

A whole body is sent with its length; a streamed one with the `Content-Length` of its request, or
chunked if it has none. The source is asked for the next chunk when the last one is written, so it
is read no faster than the backend reads.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final, cast

import attrs
import httpx

from ollama_gateway.wire.large import RequestBody, chunks_of

ONE_WRITE: Final = 64 * 1024
"""Bytes: a head and body up to this size are one write; a larger body is sent in writes of it."""


class BodyFailed(Exception):
    """The source of a streamed body failed, with `error`; the backend is not to blame."""

    def __init__(self, error: Exception) -> None:
        super().__init__("the request's body broke off")
        self.error = error


@attrs.frozen
class OutgoingBody:
    """The body of one request, and its framing."""

    content: RequestBody = attrs.field(repr=False)
    source: AsyncIterator[bytes] | None = None
    """The source of a streamed body, whose `content` is empty."""
    length: int | None = None
    """Bytes; None if unknown."""

    @classmethod
    def of(cls, request: httpx.Request) -> OutgoingBody:
        """Take the body of a request of httpx."""
        if isinstance(request.stream, httpx.ByteStream):
            return cls(request.content, length=len(request.content))
        length = request.headers.get("content-length")
        source = aiter(cast("httpx.AsyncByteStream", request.stream))
        return cls(b"", source, None if length is None else int(length))

    @property
    def framing(self) -> bytes:
        """Return the header line that frames it."""
        if self.length is None:
            return b"Transfer-Encoding: chunked\r\n"
        return b"Content-Length: %d\r\n" % self.length

    async def writes(self, head: bytes) -> AsyncGenerator[bytes]:
        """Yield the request, head first, one write at a time. Raises BodyFailed."""
        yield head
        if self.source is None:
            for chunk in chunks_of(self.content, ONE_WRITE):
                yield chunk
            return
        async for chunk in self.source:
            if chunk and self.length is None:
                yield b"%x\r\n%b\r\n" % (len(chunk), chunk)
            elif chunk:  # an empty chunk would end the body
                yield chunk
        if self.length is None:
            yield b"0\r\n\r\n"
