"""One request and its answer on one connection: bytes out, a head and a body in. It closes nothing.

What is sent is ours (`outgoing.py`, `uploading.py`), and so is all that reads the answer but for
the head of an odd one (`heads.py`, `framing.py`). While a body larger than one write goes out the
answer is already being read, because a backend may refuse an upload without reading it. A final
answer, however early, ends the upload.
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

# OSError includes ssl.SSLError. Busy: TLS can have to write in the middle of a read.
BROKEN: Final = (
    OSError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.BusyResourceError,
)
"""What AnyIO's streams raise when they do not work."""


class Conversation:
    """A request on its way out, and its answer on the way in.

    Args:
        message: the request.
        max_head: bytes that the status lines and headers of the answer, 1xx included, may have.
        is_last: whether the backend is to close the connection afterwards.

    Raises:
        httpx.LocalProtocolError: the request is not valid HTTP.

    """

    stream: ByteStream
    """What `ask` was given."""
    head: Head
    """What `ask` has found; and the body behind it."""
    body: Body

    def __init__(self, message: Message, max_head: int, *, is_last: bool) -> None:
        self._method = message.method
        self._sent = message.head(is_last=is_last)
        self._upload = message.upload
        self._max_head = max_head
        self._is_last = is_last
        self.has_received = False
        """Whether a byte of an answer has come."""
        self.sent_at = -math.inf
        """When a write of it began, or one of several ended, last."""
        self._is_written = False
        self._body_failure: BodyFailed | None = None
        self._early = b""
        """What came of the body with the head."""

    @property
    def leaves_it_reusable(self) -> bool:
        """Whether both sides have said all, and the backend may be asked again."""
        body = self.body
        if self._is_last or not self._is_written or not body.is_complete or self.has_trailing_bytes:
            return False
        return not body.ends_with_connection and self.head.keeps_connection

    @property
    def has_trailing_bytes(self) -> bool:
        """Whether something came behind the end of the answer."""
        return self.body.is_complete and bool(self.body.rest or self._early)

    async def ask(self, stream: ByteStream) -> None:
        """Send it, and read the head of the answer. Raises httpx.TransportError, BodyFailed.

        Args:
            stream: connected, and used by nothing else until this is over.

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
            except BROKEN:  # an answer may have come before it; see `_write`
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
            # Held back until the group is left, which would wrap it.
            try:
                await self._read_head()
                failure = None
            except httpx.TransportError as error:
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise self._body_failure or failure

    async def _write(self, reading: anyio.CancelScope) -> None:
        # A broken stream is left to the reader: an answer may have come before it, and if none
        # did, a connection that takes no more bytes gives none either.
        with suppress(*BROKEN):
            try:
                async with aclosing(self._upload.writes(self._sent)) as writes:
                    async for piece in writes:
                        await self.stream.send(piece)
                        self.sent_at = clock.now()
                        # A backend that reads fast makes no write wait, and others have their turn;
                        # a write over TLS that is cancelled does not say so (`connecting.py`).
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
        """Read what one read of the stream adds to the body; b"" is its end."""
        body = self.body
        data, self._early = self._early, b""
        try:
            piece = body.feed(data)
            while not piece and not body.is_complete:
                if data := await self._receive():
                    piece = body.feed(data)
                elif body.ends_with_connection:
                    body.is_complete = True
                else:
                    raise httpx.RemoteProtocolError("the backend's answer is cut short")
        except ChunkedBodyBroken:
            refuse()
        return piece

    async def _receive(self) -> bytes:
        """What one read gives; b"" at the end of the connection."""
        try:
            data = await self.stream.receive()
        except anyio.EndOfStream:
            return b""
        except BROKEN as error:
            raise httpx.ReadError("the connection to the backend broke") from error
        self.has_received = True
        return data
