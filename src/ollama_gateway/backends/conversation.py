"""One request and its answer on one connection: bytes out, a head and a body in.

The gateway writes the request itself (`outgoing.py`, `uploading.py`) and reads the answer itself
(`framing.py`), except for an unusual head (`heads.py`). While a body larger than one write is sent,
the answer is already being read, because a backend may refuse an upload without reading it. A final
answer, however early, ends the upload. The caller closes the connection.
"""

from __future__ import annotations

import math
from contextlib import aclosing, suppress
from typing import Final

import anyio
import anyio.lowlevel
import httpx
from anyio.abc import ByteStream

from ollama_gateway import clock
from ollama_gateway.backends.framing import Body, body_of
from ollama_gateway.backends.heads import Head, HeadByH11, plain_head, refuse
from ollama_gateway.backends.outgoing import Message
from ollama_gateway.backends.uploading import ONE_WRITE, BodyFailed
from ollama_gateway.wire.chunked import ChunkedBodyBroken

# OSError includes ssl.SSLError. Busy: TLS may have to write in the middle of a read.
BROKEN: Final = (
    OSError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.BusyResourceError,
)
"""Errors of broken streams of AnyIO."""


class Conversation:
    """A request on its way out, and its answer on the way in.

    Args:
        message: the request.
        max_head: bytes allowed for the status lines and headers of the answer, 1xx included.
        is_last: whether the backend should close the connection afterwards.

    Raises:
        httpx.LocalProtocolError: the request is not valid HTTP.

    """

    stream: ByteStream
    """The stream that `ask` was given."""
    head: Head
    """The head that `ask` has read."""
    body: Body
    """The body after it."""

    def __init__(self, message: Message, max_head: int, *, is_last: bool) -> None:
        self._method = message.method
        self._sent = message.head(is_last=is_last)
        self._upload = message.upload
        self._max_head = max_head
        self._is_last = is_last
        self.has_received = False
        """Whether a byte of an answer has arrived."""
        self.sent_at = -math.inf
        """When its single write began, or the last of several writes ended."""
        self._is_written = False
        self._body_failure: BodyFailed | None = None
        self._early = b""
        """Bytes of the body that arrived with the head."""

    @property
    def leaves_it_reusable(self) -> bool:
        """True if both sides are finished, and the connection can carry another request."""
        body = self.body
        if self._is_last or not self._is_written or not body.is_complete or self.has_trailing_bytes:
            return False
        return not body.ends_with_connection and self.head.keeps_connection

    @property
    def has_trailing_bytes(self) -> bool:
        """True if bytes arrived after the end of the answer."""
        return self.body.is_complete and bool(self.body.rest or self._early)

    async def ask(self, stream: ByteStream) -> None:
        """Send the request and read the head of the answer.

        Args:
            stream: connected, and used by nothing else meanwhile.

        Raises:
            httpx.TransportError, BodyFailed: as `Transport.ask` says.

        """
        self.stream, self.sent_at = stream, clock.now()
        content = self._upload.content
        try:
            if (
                self._upload.source is not None
                or not isinstance(content, bytes)
                or len(self._sent) + len(content) > ONE_WRITE
            ):
                await self._ask_while_writing()
                return
            try:
                await stream.send(self._sent + content)
                self._is_written = True
            except BROKEN:  # an answer may have arrived before it; see `_write`
                self._is_written = False
            await self._read_head()
        except httpx.TransportError as error:
            if self._is_written:
                raise
            raise httpx.WriteError("the backend broke off the request") from error

    async def _ask_while_writing(self) -> None:
        failure: Exception | None = httpx.WriteError("the request's body broke off")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._write, tasks.cancel_scope)
            # Raised after the group, which would wrap it in an ExceptionGroup.
            try:
                await self._read_head()
                failure = None
            except httpx.TransportError as error:
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise self._body_failure or failure

    async def _write(self, reading: anyio.CancelScope) -> None:
        # The reader finds a broken stream too: an answer may have arrived before it broke, and if
        # none has, a connection that takes no more bytes yields none either.
        with suppress(*BROKEN):
            try:
                async with aclosing(self._upload.writes(self._sent)) as writes:
                    async for chunk in writes:
                        await self.stream.send(chunk)
                        self.sent_at = clock.now()
                        # If the backend reads fast, no write waits, and other tasks need a turn; a
                        # cancelled write over TLS does not raise (`connecting.py`).
                        await anyio.lowlevel.checkpoint()
                self._is_written = True
            except BodyFailed as failure:
                self._body_failure = failure
                reading.cancel()

    async def _read_head(self) -> None:
        data = await self._receive()
        found = plain_head(data, self._max_head)
        if found is None:
            reader = HeadByH11(self._method, self._max_head)
            while (found := reader.feed(data)) is None:
                data = await self._receive()
        self.head, self._early = found
        self.body = body_of(self._method, self.head)

    async def read_chunk(self) -> bytes:
        """Return the bytes of the body from one read of the stream; b"" is its end."""
        body = self.body
        data, self._early = self._early, b""
        try:
            chunk = body.feed(data)
            while not chunk and not body.is_complete:
                if data := await self._receive():
                    chunk = body.feed(data)
                elif body.ends_with_connection:
                    body.is_complete = True
                else:
                    raise httpx.RemoteProtocolError("the backend's answer is cut short")
        except ChunkedBodyBroken:
            refuse()
        return chunk

    async def _receive(self) -> bytes:
        """Read once; b"" is the end of the connection."""
        try:
            data = await self.stream.receive()
        except anyio.EndOfStream:
            return b""
        except BROKEN as error:
            raise httpx.ReadError("the connection to the backend broke") from error
        self.has_received = True
        return data
