"""The upstream transport: httpx's interface, h11's parser, AnyIO's streams, one a backend.

Racing is cancellation, and httpx's own pool wedges for good under it. So a connection belongs to
one request at a time, and only a request whose answer was read to its end, on a connection that is
good for more, leaves it for a next one (`idle.py`). Whatever else ends a request closes its
connection: an error, a cancel, `aclose()` in the middle. Closing is always forced: nothing a
backend does can make it wait.

A connection that was kept may have been ended by its backend at the very moment of its use. Where
such a one breaks before a byte of an answer has come, the request goes out once more, on a new one.

Only httpx's exceptions leave here, with texts of our own: those of the peer, the system and the
libraries carry bytes and addresses, and stay behind as causes. There are no deadlines here; they
are cancel scopes of the caller, and httpx's `timeout` is not looked at.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
import attrs
import h11
import httpx
from anyio.abc import ByteStream

from ollama_gateway.backends.conversation import BROKEN, Conversation
from ollama_gateway.backends.idle import IdleConnections, has_ended
from ollama_gateway.backends.uploading import Upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Connect = Callable[[], Awaitable[ByteStream]]
"""Opens a new connection to the one backend it is for, within a deadline of its own."""

MOST_IDLE: Final = 128
"""Connections of one backend that are worth keeping."""
ONCE: Final = "once"
"""The extension of a request that must not go out twice: it gets a connection of its own."""


class Transport(httpx.AsyncBaseTransport):
    """Carries requests to one backend, each on a connection that is its own meanwhile.

    Args:
        connect: opens a connection. Its `TimeoutError` becomes `httpx.ConnectTimeout`; its
            `OSError`, `UnicodeError` and AnyIO's errors of streams become `httpx.ConnectError`.
        max_head: bytes that the status lines and headers of an answer, 1xx included, may have.
        most_idle: connections kept for a next request; 0: none.

    """

    def __init__(self, connect: Connect, *, max_head: int = 64 * 1024, most_idle: int = 0) -> None:
        self.open_connections = 0
        """Connections that requests use, or are opening; without those that are kept."""
        self._connect = connect
        self._max_head = max_head
        self._idle = IdleConnections(most_idle)

    @property
    def idle_connections(self) -> int:
        """Connections that are kept for a next request."""
        return len(self._idle)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request and return once the head of its answer is there.

        The request's own framing headers are replaced by ours; of a streamed body, which goes out
        once, on a connection of its own, the `Content-Length` counts. The response's body comes
        undecoded, each chunk being what one read gave, and has to be iterated to its end or closed.

        Raises:
            BodyFailed: the request's body says so, and no answer was there.
            httpx.LocalProtocolError: the request is not valid HTTP.
            httpx.ConnectError, httpx.ConnectTimeout: no connection; nothing was sent.
            httpx.WriteError: the connection broke during the request, and no answer was there.
            httpx.ReadError: the connection broke; from the body's iteration too.
            httpx.RemoteProtocolError: the answer is cut short or not HTTP; likewise.

        """
        upload = Upload.of(request)
        is_once = ONCE in request.extensions or upload.source is not None
        is_last = not self._idle.most or is_once
        begin = partial(Conversation, request, upload, self._max_head, is_last=is_last)
        conversation = begin()
        self.open_connections += 1
        try:
            answer = None
            if not is_last and (kept := await self._kept()):
                answer = await self._ask_on_kept(conversation, kept)
                conversation = conversation if answer else begin()
            if answer is None:
                answer = await self._ask(conversation, await self._open())
        except BaseException:
            self.open_connections -= 1
            raise
        return httpx.Response(
            answer.status_code,
            headers=answer.headers.raw_items(),
            stream=_Body(self, conversation),
            extensions={
                "http_version": b"HTTP/" + answer.http_version,
                "reason_phrase": answer.reason,
            },
        )

    async def aclose(self) -> None:
        """Close the connections that are kept."""
        while (kept := self._idle.take()) is not None:
            await _close(kept[0])

    async def release(self, conversation: Conversation) -> None:
        """Take the connection of a request that has ended: keep it, or close it; once for each."""
        self.open_connections -= 1
        if conversation.leaves_it_reusable:
            self._idle.keep(conversation.stream)
        else:
            await _close(conversation.stream)
        await self._close_expired()

    async def _ask_on_kept(
        self, conversation: Conversation, stream: ByteStream
    ) -> h11.Response | None:
        """The answer's head; None where the connection turned out to have ended."""
        try:
            return await self._ask(conversation, stream)
        except httpx.TransportError:
            if conversation.was_heard:
                raise
            return None

    async def _ask(self, conversation: Conversation, stream: ByteStream) -> h11.Response:
        try:
            return await conversation.ask(stream)
        except BaseException:
            await _close(stream)
            raise

    async def _kept(self) -> ByteStream | None:
        """A connection that was kept, and is still good as far as can be seen."""
        await self._close_expired()
        while (kept := self._idle.take()) is not None:
            stream, is_doubtful = kept
            if not is_doubtful or not has_ended(stream):
                return stream
            await _close(stream)
        return None

    async def _close_expired(self) -> None:
        while (stream := self._idle.expired()) is not None:
            await _close(stream)

    async def _open(self) -> ByteStream:
        try:
            return await self._connect()
        except TimeoutError as error:
            raise httpx.ConnectTimeout("connecting to the backend took too long") from error
        except (*BROKEN, anyio.EndOfStream, UnicodeError) as error:
            raise httpx.ConnectError("cannot connect to the backend") from error


async def _close(stream: ByteStream) -> None:
    # A broken TLS stream can complain even here; what is below it is closed all the same.
    with suppress(*BROKEN):
        await anyio.aclose_forcefully(stream)


@attrs.define(eq=False)
class _Body(httpx.AsyncByteStream):
    """An answer's body and the owner of its connection; not a generator, so that nothing is
    left to the garbage collector when a reader stops in the middle.
    """

    _transport: Transport
    _conversation: Conversation
    _is_released: bool = attrs.field(default=False, init=False)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._is_released and not self._conversation.is_complete:
            raise httpx.ReadError("the answer was closed")
        try:
            chunk = await self._conversation.read_chunk()
        except BaseException:
            await self.aclose()
            raise
        if self._conversation.is_complete:
            await self.aclose()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Let go of the connection at once, in any state, as often as wanted."""
        if not self._is_released:
            self._is_released = True
            await self._transport.release(self._conversation)
