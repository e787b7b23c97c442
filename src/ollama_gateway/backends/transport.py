"""The upstream transport: a light interface and httpx's, over AnyIO's streams, one a backend.

Racing is cancellation, and httpx's own pool wedges for good under it. So a connection belongs to
one request at a time, and only a request whose answer was read to its end, on a connection that is
good for more, leaves it for a next one (`idle.py`). Whatever else ends a request closes its
connection: an error, a cancel, `aclose()` in the middle. Closing is always forced: nothing a
backend does can make it wait.

A connection that was kept may have been ended by its backend at the very moment of its use. Where
such a one breaks within a second, before a byte of an answer has come, the request goes out once
more, on a new one. Later than that it is the backend that broke: it may have worked on the request.

Only httpx's exceptions leave here, with texts of our own: those of the peer, the system and the
libraries carry bytes and addresses, and stay behind as causes. There are no deadlines here; they
are cancel scopes of the caller, and httpx's `timeout` is not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import anyio
import attrs
import httpx
from anyio.abc import ByteStream

from ollama_gateway import clock
from ollama_gateway.backends.conversation import BROKEN, Conversation
from ollama_gateway.backends.heads import Head
from ollama_gateway.backends.idle import DISTRUST_SECONDS, IdleConnections, is_quiet
from ollama_gateway.backends.outgoing import Message
from ollama_gateway.log import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Connect = Callable[[], Awaitable[ByteStream]]
"""Opens a new connection to the one backend it is for, within a deadline of its own."""

MAX_IDLE: Final = 256
"""Connections of one backend that are worth keeping: each rests 0.1 s between two requests, and a
process serves some 1,000 in a second."""
RESEND_SECONDS: Final = 1.0
"""Seconds after its last write within which a request whose kept connection broke goes out again: a
connection that had ended already says so in a round trip."""
PEEK_SECONDS: Final = 0.01
"""Seconds for reading what a kept connection says unasked: over TLS that can be nothing of ours."""
ONCE: Final = "once"
"""The extension of a request that must not go out twice: it gets a connection of its own."""

log = get_logger("transport")


class Transport(httpx.AsyncBaseTransport):
    """Carries requests to one backend, each on a connection that is its own meanwhile.

    Args:
        connect: opens a connection. Its `TimeoutError` becomes `httpx.ConnectTimeout`; its
            `OSError`, `UnicodeError` and AnyIO's errors of streams become `httpx.ConnectError`.
        max_head: bytes that the status lines and headers of an answer, 1xx included, may have.
        most_idle: connections kept for a next request; 0: none.
        name: the backend's, for the log.

    """

    def __init__(
        self, connect: Connect, *, max_head: int = 64 * 1024, most_idle: int = 0, name: str = ""
    ) -> None:
        self.open_connections = 0
        """Connections that requests use, or are opening; without those that are kept."""
        self._connect = connect
        self._max_head = max_head
        self._idle = IdleConnections(most_idle)
        self._name = name

    @property
    def idle_connections(self) -> int:
        """Connections that are kept for a next request."""
        return len(self._idle)

    async def ask(self, message: Message, owner: str = "") -> BackendAnswer:
        """Send the request and return once the head of its answer is there.

        The request's own framing headers are replaced by ours; of a streamed body, which goes out
        once, on a connection of its own, the `Content-Length` counts.

        Args:
            message: the request.
            owner: the key that it is for, or "" for the gateway itself. A connection that was kept
                is used for the same owner alone.

        Raises:
            BodyFailed: the request's body says so, and no answer was there.
            httpx.LocalProtocolError: the request is not valid HTTP.
            httpx.ConnectError, httpx.ConnectTimeout: no connection; nothing was sent.
            httpx.WriteError: the connection broke during the request, and no answer was there.
            httpx.ReadError: the connection broke; from reading the body too.
            httpx.RemoteProtocolError: the answer is cut short or not HTTP; likewise.

        """
        is_last = message.is_once or not self._idle.may_keep(clock.now())
        conversation = Conversation(message, self._max_head, is_last=is_last)
        self.open_connections += 1
        try:
            kept = None if is_last else await self._kept_connection(owner)
            if kept is None:
                await self._ask(conversation, await self._open())
            elif not await self._ask(conversation, kept, is_kept=True):
                conversation = Conversation(message, self._max_head, is_last=is_last)
                await self._ask(conversation, await self._open())
        except BaseException:
            self.open_connections -= 1
            raise
        return BackendAnswer(self, conversation, owner)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Do the same for a request of httpx, with what `ask` says and raises.

        The response's body comes undecoded, each chunk being what one read gave, and has to be
        iterated to its end or closed.
        """
        incoming = await self.ask(Message.of(request, is_once=ONCE in request.extensions))
        head = incoming.head
        version = b"HTTP/" + head.version
        return httpx.Response(
            head.status,
            headers=head.headers,
            stream=_Body(incoming),
            extensions={"http_version": version, "reason_phrase": head.reason},
        )

    async def aclose(self) -> None:
        """Close the connections that are kept."""
        while (kept := self._idle.expired(math.inf)) is not None:
            await _close(kept)

    async def release(self, conversation: Conversation, owner: str) -> None:
        """Take the connection of a request that has ended: keep it, or close it; once for each."""
        self.open_connections -= 1
        now = clock.now()
        if conversation.leaves_it_reusable:
            self._idle.keep(conversation.stream, owner, now)
        else:
            if conversation.has_trailing_bytes:
                self._distrust(now)
            await _close(conversation.stream)
        await self._drop_expired(now)

    async def _ask(
        self, conversation: Conversation, stream: ByteStream, *, is_kept: bool = False
    ) -> bool:
        """Whether there is an answer; no where a kept connection turned out to have ended."""
        try:
            await conversation.ask(stream)
        except BaseException as error:
            await _close(stream)
            is_soon = clock.now() - conversation.sent_at <= RESEND_SECONDS
            is_stale = is_kept and is_soon and not conversation.has_received
            if is_stale and isinstance(error, httpx.TransportError):
                return False
            raise
        return True

    async def _kept_connection(self, owner: str) -> ByteStream | None:
        """A connection that was kept, and is still good as far as can be seen.

        Nothing else runs between this look and the write of a request that is one write.
        """
        now = clock.now()
        await self._drop_expired(now)
        while (stream := self._idle.take(owner, now)) is not None:
            if is_quiet(stream):
                return stream
            await self._drop(stream, now)
        return None

    async def _drop_expired(self, now: float) -> None:
        while (stream := self._idle.expired(now)) is not None:
            await self._drop(stream, now)

    async def _drop(self, stream: ByteStream, now: float) -> None:
        """Close one that was kept; what it says unasked ends the trust in its backend."""
        try:
            if not is_quiet(stream) and await _has_bytes(stream):
                self._distrust(now)
        finally:
            await _close(stream)

    def _distrust(self, now: float) -> None:
        if self._idle.distrust(now):
            log.warning(
                "backend says what nobody asked: its connections are not kept",
                backend=self._name,
                seconds=DISTRUST_SECONDS,
            )

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


async def _has_bytes(stream: ByteStream) -> bool:
    """Whether it is more than an end that can be read."""
    with anyio.move_on_after(PEEK_SECONDS), suppress(*BROKEN, anyio.EndOfStream):
        return bool(await stream.receive())
    return False


@attrs.define(eq=False)
class BackendAnswer:
    """An answer from its head on, and the owner of its connection: read to its end, or closed."""

    _transport: Transport
    _conversation: Conversation
    _owner: str
    _is_released: bool = attrs.field(default=False, init=False)

    @property
    def head(self) -> Head:
        """Its status and headers."""
        return self._conversation.head

    async def read(self) -> bytes:
        """What one read adds to the body, undecoded; b"" is its end. Raises as `Transport.ask`."""
        conversation = self._conversation
        if self._is_released and not conversation.body.is_complete:
            raise httpx.ReadError("the answer was closed")
        try:
            chunk = await conversation.read_chunk()
        except BaseException:
            await self.aclose()
            raise
        if conversation.body.is_complete:
            await self.aclose()
        return chunk

    async def aclose(self) -> None:
        """Let go of the connection at once, in any state, as often as wanted."""
        if not self._is_released:
            self._is_released = True
            await self._transport.release(self._conversation, self._owner)


@attrs.define(eq=False)
class _Body(httpx.AsyncByteStream):
    """An answer's body for httpx; not a generator, so that nothing is left to the garbage
    collector when a reader stops in the middle.
    """

    _incoming: BackendAnswer

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if chunk := await self._incoming.read():
            return chunk
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Let go of the connection; see `Incoming`."""
        await self._incoming.aclose()
