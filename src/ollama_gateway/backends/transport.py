"""The transport to one backend, over AnyIO's streams: `ask` for inference, httpx's for the rest.

Races cancel requests, and httpx's own pool stops working for good under cancellation. So here a
connection belongs to one request at a time. It is kept for a next request (`idle.py`) only if the
answer was read to its end and the connection is still good. Any other end of a request closes the
connection: an error, a cancellation, an early `aclose()`. Closing is always forced, so no backend
can delay it.

A backend may close a kept connection in the moment in which it is used again. If such a connection
breaks within a second, before a byte of an answer, the request is sent once more, on a new
connection. After a second the backend counts as broken: it may have worked on the request.

Only httpx's exceptions leave this module, with the gateway's own texts: the texts of peers, system
and libraries contain bytes and addresses, and are kept as causes. There are no deadlines here: the
caller sets them by cancel scopes, and httpx's `timeout` is ignored.
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
"""Opens a new connection to its backend, within a deadline of its own."""

MAX_IDLE: Final = 256
"""Idle connections kept for one backend. Each waits 0.1 s before its next request, and a process
serves about 1,000 requests a second."""
RESEND_SECONDS: Final = 1.0
"""Seconds after its last write in which a request is sent again if its kept connection breaks: a
connection that the backend had closed breaks within a round trip."""
PEEK_SECONDS: Final = 0.01
"""Seconds to read unexpected bytes of an idle connection: those of TLS may yield no data."""
ONCE: Final = "once"
"""The extension of httpx's requests that must not be sent twice: they get a new connection."""

log = get_logger("transport")


class Transport(httpx.AsyncBaseTransport):
    """Carries requests to one backend, each on a connection of its own meanwhile.

    Args:
        connect: opens a connection. Its `TimeoutError` becomes `httpx.ConnectTimeout`; its
            `OSError`, `UnicodeError` and AnyIO's stream errors become `httpx.ConnectError`.
        max_head: bytes allowed for the status lines and headers of an answer, 1xx included.
        most_idle: connections kept for next requests; 0 keeps none.
        name: the backend's name, for the log.

    """

    def __init__(
        self, connect: Connect, *, max_head: int = 64 * 1024, most_idle: int = 0, name: str = ""
    ) -> None:
        self.open_connections = 0
        """Connections in use or being opened, without the idle ones."""
        self._connect = connect
        self._max_head = max_head
        self._idle = IdleConnections(most_idle)
        self._name = name

    @property
    def idle_connections(self) -> int:
        """Connections kept for next requests."""
        return len(self._idle)

    async def ask(self, message: Message, owner: str = "") -> BackendAnswer:
        """Send a request and return its answer once the head has arrived.

        The gateway's framing headers replace those of the request, except the `Content-Length` of
        a streamed body, which is sent once, on a new connection.

        Args:
            message: the request.
            owner: the id of the key that it is for, or "" for the gateway itself. An idle
                connection is used again only for the same owner.

        Raises:
            BodyFailed: the source of the body failed before an answer arrived.
            httpx.LocalProtocolError: the request is not valid HTTP.
            httpx.ConnectError, httpx.ConnectTimeout: no connection; nothing was sent.
            httpx.WriteError: the connection broke during the request, before an answer.
            httpx.ReadError: the connection broke; reading the body raises it too.
            httpx.RemoteProtocolError: the answer is cut short or not HTTP; reading the body raises
                it too.

        """
        is_last = message.is_once or not self._idle.may_keep(clock.now())
        conversation = Conversation(message, self._max_head, is_last=is_last)
        self.open_connections += 1
        try:
            idle = None if is_last else await self._take_idle(owner)
            if idle is None:
                await self._ask(conversation, await self._open())
            elif not await self._ask(conversation, idle, was_idle=True):
                conversation = Conversation(message, self._max_head, is_last=is_last)
                await self._ask(conversation, await self._open())
        except BaseException:
            self.open_connections -= 1
            raise
        return BackendAnswer(self, conversation, owner)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request of httpx; the rules and errors of `ask` apply.

        The response's body is not decoded, and each chunk is the result of one read. The caller
        iterates it to its end or closes it.
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
        """Close the idle connections."""
        while (idle := self._idle.expired(math.inf)) is not None:
            await _close(idle)

    async def retire(self) -> None:
        """Close the idle connections, and keep none any more; requests that run go on."""
        self._idle.end()
        await self.aclose()

    async def release(self, conversation: Conversation, owner: str) -> None:
        """Keep or close the connection of an ended request; called once for each."""
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
        self, conversation: Conversation, stream: ByteStream, *, was_idle: bool = False
    ) -> bool:
        """Send the request; return False if a kept connection turns out to be closed."""
        try:
            await conversation.ask(stream)
        except BaseException as error:
            await _close(stream)
            is_soon = clock.now() - conversation.sent_at <= RESEND_SECONDS
            is_stale = was_idle and is_soon and not conversation.has_received
            if is_stale and isinstance(error, httpx.TransportError):
                return False
            raise
        return True

    async def _take_idle(self, owner: str) -> ByteStream | None:
        """Return an idle connection that looks usable, or None.

        No other task runs between this check and the write of a request that is a single write.
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
        """Close an idle connection; unexpected bytes on it end the trust in its backend."""
        try:
            if not is_quiet(stream) and await _has_bytes(stream):
                self._distrust(now)
        finally:
            await _close(stream)

    def _distrust(self, now: float) -> None:
        if self._idle.distrust(now):
            log.warning(
                "backend sends bytes unasked: its connections are not kept",
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
    # A broken TLS stream can raise even here; the socket below it is closed all the same.
    with suppress(*BROKEN):
        await anyio.aclose_forcefully(stream)


async def _has_bytes(stream: ByteStream) -> bool:
    """Return True if the stream has bytes to read, and not only its end."""
    with anyio.move_on_after(PEEK_SECONDS), suppress(*BROKEN, anyio.EndOfStream):
        return bool(await stream.receive())
    return False


@attrs.define(eq=False)
class BackendAnswer:
    """An answer after its head. It owns the connection; read it to its end, or close it."""

    _transport: Transport
    _conversation: Conversation
    _owner: str
    _is_released: bool = attrs.field(default=False, init=False)

    @property
    def head(self) -> Head:
        """Status and headers."""
        return self._conversation.head

    async def read(self) -> bytes:
        """Read a chunk of the body, undecoded; b"" is its end. Raises as `Transport.ask` does."""
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
        """Release the connection at once, in any state; further calls do nothing."""
        if not self._is_released:
            self._is_released = True
            await self._transport.release(self._conversation, self._owner)


@attrs.define(eq=False)
class _Body(httpx.AsyncByteStream):
    """An answer's body for httpx.

    It is not a generator, which a reader that stops early would leave to the garbage collector.
    """

    _incoming: BackendAnswer

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if chunk := await self._incoming.read():
            return chunk
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Release the connection."""
        await self._incoming.aclose()
