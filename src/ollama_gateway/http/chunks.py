"""A request's chunked body as it came: it is taken apart when somebody wants it.

A request whose key is bad costs what one without a body costs. What is wanted is taken apart at
once, or, where it is made of many tiny chunks, a part at a time, one body in a turn of the event
loop: those who send such bodies wait for one another, and nobody waits for them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import anyio

from ollama_gateway.errors import BadRequest, GatewayError, HeadersTooLarge
from ollama_gateway.wire.chunked import ChunkedBody, ChunkedBodyBroken, LineTooLong

MANY_LINES: Final = 1000
"""Ends of lines (a chunk has two) in what waits that make it a body of many chunks."""
PART_BYTES: Final = 8192
"""Bytes of such a body that are taken apart in one turn: 0.1 ms, of odd chunks 0.7 ms."""
SHORT_BODY_BYTES: Final = 1024
"""Bytes of a body that is looked at though nobody wants it: the connection can stay at its end."""


class Chunks:
    """The chunks of one body.

    Args:
        turn: held while a part of a body of many chunks is taken apart; of all connections.
        is_whole: called with what came behind the body's end, once that is found.

    """

    def __init__(self, turn: anyio.Lock, is_whole: Callable[[bytes], None]) -> None:
        self._turn = turn
        self._is_whole = is_whole
        self._body = ChunkedBody()
        self._bytes = bytearray()

    def __len__(self) -> int:
        """Bytes that wait."""
        return len(self._bytes)

    @property
    def is_complete(self) -> bool:
        """Whether the end of the body was found."""
        return self._body.is_complete

    def put(self, data: bytes) -> None:
        """Let it wait."""
        self._bytes += data

    async def take(self) -> bytes:
        """What waits, or some of it, carries; raises GatewayError where that is no body."""
        if self._bytes.count(b"\n") <= MANY_LINES:
            return self._take(len(self._bytes))
        async with self._turn:
            return self._take(PART_BYTES)

    def drop(self) -> None:
        """Nobody wants it: of a long one the end is never found."""
        if len(self._bytes) <= SHORT_BODY_BYTES:
            with suppress(GatewayError):
                self._take(SHORT_BODY_BYTES)
        self._bytes.clear()

    def _take(self, size: int) -> bytes:
        part = bytes(memoryview(self._bytes)[:size])
        if not part:
            return b""  # it was dropped meanwhile
        del self._bytes[:size]
        try:
            data = self._body.feed(part)
            self._body.feed(b"")  # raises where what comes next is broken: nobody waits for it
        except LineTooLong:
            raise HeadersTooLarge from None
        except ChunkedBodyBroken:
            message = "the request's body is not chunked as it says"
            raise BadRequest(message, reason="bad_request_body") from None
        if self._body.is_complete:
            rest, self._bytes = self._body.rest + bytes(self._bytes), bytearray()
            self._is_whole(rest)
        return data
