"""Store a request's chunked body as it came, and decode it only when the application reads it.

So a request with a bad key costs no more than one without a body. A body is decoded at once; a
body of many tiny chunks is decoded a part at a time, one body in each turn of the event loop, so
that clients that send such bodies wait for one another and delay no other client.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import anyio

from ollama_gateway.errors import BadRequest, GatewayError, HeadersTooLarge
from ollama_gateway.reasons import Reason
from ollama_gateway.wire.chunked import ChunkedBody, ChunkedBodyBroken, LineTooLong

MANY_LINES: Final = 1000
"""More line ends than this among the waiting bytes (a chunk has two) mean many tiny chunks."""
PART_BYTES: Final = 8192
"""Bytes of such a body that are decoded in one turn: 0.1 ms, 0.7 ms if the chunks are odd."""
SHORT_BODY_BYTES: Final = 1024
"""An unwanted body of at most so many bytes is still decoded: if its end is there, the connection
can be kept."""


class Chunks:
    """The chunks of one body.

    Args:
        turn: held while a part of a body of many chunks is decoded; shared by all connections.
        is_whole: called when the end of the body is found, with the bytes that follow it.

    """

    def __init__(self, turn: anyio.Lock, is_whole: Callable[[bytes], None]) -> None:
        self._turn = turn
        self._is_whole = is_whole
        self._body = ChunkedBody()
        self._bytes = bytearray()

    def __len__(self) -> int:
        """Return how many bytes wait to be decoded."""
        return len(self._bytes)

    @property
    def is_complete(self) -> bool:
        """True once the end of the body has been found."""
        return self._body.is_complete

    def put(self, data: bytes) -> None:
        """Append bytes as they came; they wait until `take` or `drop`."""
        self._bytes += data

    async def take(self) -> bytes:
        """Decode the waiting bytes, or a part of them; raises GatewayError for broken chunks."""
        if self._bytes.count(b"\n") <= MANY_LINES:
            return self._take(len(self._bytes))
        async with self._turn:
            return self._take(PART_BYTES)

    def drop(self) -> None:
        """Discard the waiting bytes; the end of a long body is then never found."""
        if len(self._bytes) <= SHORT_BODY_BYTES:
            with suppress(GatewayError):
                self._take(SHORT_BODY_BYTES)
        self._bytes.clear()

    def _take(self, size: int) -> bytes:
        part = bytes(memoryview(self._bytes)[:size])
        if not part:
            return b""  # the body was dropped meanwhile
        del self._bytes[:size]
        try:
            data = self._body.feed(part)
            self._body.feed(b"")  # raises if the next chunk is broken, without waiting for it
        except LineTooLong:
            raise HeadersTooLarge from None
        except ChunkedBodyBroken:
            message = "the chunked request body is malformed"
            raise BadRequest(message, reason=Reason.BAD_REQUEST_BODY) from None
        if self._body.is_complete:
            following, self._bytes = self._body.rest + bytes(self._bytes), bytearray()
            self._is_whole(following)
        return data
