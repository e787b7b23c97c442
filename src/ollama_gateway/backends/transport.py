"""The upstream transport: httpx's interface, h11's parser, AnyIO's streams, one a backend.

Racing is cancellation, and httpx's own pool wedges for good under it. So there is no pool: a
connection carries one request and is closed after it. Everything a request owns sits on one exit
stack, which closes it whatever happens; once the head of the answer is there the stack passes to
the response's body, which unwinds it at the end of the body, on an error, on a cancel and on
`aclose()`. Closing is always forced: nothing a backend does can make it wait.

h11 frames our head and parses the answer; the request's body never enters it, as its length is in
the head. While a body larger than one write goes out the answer is already being read, because a
backend may refuse an upload without reading it. A final answer, however early, ends the upload.
(Over TLS a write cut in the middle ends the stream too: of such an early answer only what came
with its head is then left.)

Only httpx's exceptions leave here, with texts of our own: those of the peer, the system and the
libraries carry bytes and addresses, and stay behind as causes. There are no deadlines here; they
are cancel scopes of the caller, and httpx's `timeout` is not looked at.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, NoReturn

import anyio
import attrs
import h11
import httpx
from anyio.abc import ByteStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Connect = Callable[[], Awaitable[ByteStream]]
"""Opens a new connection to the one backend it is for, within a deadline of its own."""

ONE_WRITE = 64 * 1024
"""Bytes: a head and body up to this leave in one write; a larger body goes in pieces of it."""

MAX_INTERIM = 16
"""1xx responses skipped before an answer."""

LAST_STATUS = 599
"""RFC 9110 knows no higher one; h11 does."""

_OWN_HEADERS = frozenset({b"connection", b"content-length", b"transfer-encoding"})
_METHODS_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})

# OSError includes ssl.SSLError. Busy: TLS can have to write in the middle of a read.
_BROKEN = (
    OSError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.BusyResourceError,
)


class Transport(httpx.AsyncBaseTransport):
    """Carries requests to one backend, each on a connection of its own.

    Args:
        connect: opens a connection. Its `TimeoutError` becomes `httpx.ConnectTimeout`; its
            `OSError`, `UnicodeError` and AnyIO's errors of streams become `httpx.ConnectError`.
        max_head: bytes that the status lines and headers of an answer, 1xx included, may have.

    """

    def __init__(self, connect: Connect, *, max_head: int = 64 * 1024) -> None:
        self.open_connections = 0
        """Connections open or being opened."""
        self._connect = connect
        self._max_head = max_head

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request and return once the head of its answer is there.

        The request's body is read whole. Its own framing headers are replaced by a
        `Content-Length` and `Connection: close`. The response's body comes undecoded, each chunk
        being what one read gave, and has to be iterated to its end or closed.

        Raises:
            httpx.LocalProtocolError: the request is not valid HTTP.
            httpx.ConnectError, httpx.ConnectTimeout: no connection; nothing was sent.
            httpx.WriteError: the connection broke during the request, and no answer was there.
            httpx.ReadError: the connection broke; from the body's iteration too.
            httpx.RemoteProtocolError: the answer is cut short or not HTTP; likewise.

        """
        content = await request.aread()
        parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=self._max_head)
        head = _frame(parser, request, len(content))
        async with AsyncExitStack() as lifetime:
            self.open_connections += 1
            lifetime.callback(self._count_closed)
            stream = await self._open()
            lifetime.push_async_callback(_close, stream)
            connection = _Connection(stream, parser, self._max_head)
            answer = await connection.ask(head, content)
            body = _Body(connection, lifetime.pop_all())
        return httpx.Response(
            answer.status_code,
            headers=answer.headers.raw_items(),
            stream=body,
            extensions={
                "http_version": b"HTTP/" + answer.http_version,
                "reason_phrase": answer.reason,
            },
        )

    async def _open(self) -> ByteStream:
        try:
            return await self._connect()
        except TimeoutError as error:
            raise httpx.ConnectTimeout("connecting to the backend took too long") from error
        except (*_BROKEN, anyio.EndOfStream, UnicodeError) as error:
            raise httpx.ConnectError("cannot connect to the backend") from error

    def _count_closed(self) -> None:
        self.open_connections -= 1


def _frame(parser: h11.Connection, request: httpx.Request, length: int) -> bytes:
    """Make the head's bytes, with a framing that is ours whatever the request's headers say."""
    headers = [item for item in request.headers.raw if item[0].lower() not in _OWN_HEADERS]
    if length or request.method in _METHODS_WITH_BODY:
        headers.append((b"Content-Length", b"%d" % length))
    headers.append((b"Connection", b"close"))
    try:
        head = h11.Request(method=request.method, target=request.url.raw_path, headers=headers)
        return parser.send(head) or b""
    except (h11.LocalProtocolError, UnicodeError):
        # h11 quotes the value it refuses, which can be a credential: no cause is kept.
        raise httpx.LocalProtocolError("the request is not valid HTTP") from None


async def _close(stream: ByteStream) -> None:
    # A broken TLS stream can complain even here; what is below it is closed all the same.
    with suppress(*_BROKEN):
        await anyio.aclose_forcefully(stream)


@attrs.define(eq=False)
class _Connection:
    """The conversation on one connection: a request out, an answer in. It closes nothing."""

    _stream: ByteStream
    _parser: h11.Connection
    _max_head: int
    _received: int = 0
    _is_written: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether the body has ended as its framing says; what follows it is never looked at."""
        # We said `Connection: close`, so h11 goes from the body's end straight to this state.
        return self._parser.their_state is h11.MUST_CLOSE

    async def ask(self, head: bytes, content: bytes) -> h11.Response:
        try:
            if len(head) + len(content) > ONE_WRITE:
                return await self._ask_while_writing(head, content)
            await self._write(head + content)
            return await self._read_head()
        except httpx.TransportError as error:
            if self._is_written:
                raise
            raise httpx.WriteError("the backend broke off the request") from error

    async def _ask_while_writing(self, head: bytes, content: bytes) -> h11.Response:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._write, head, content)
            # Held back until the group is left, which would wrap it.
            outcome: h11.Response | httpx.TransportError
            try:
                outcome = await self._read_head()
            except httpx.TransportError as error:
                outcome = error
            tasks.cancel_scope.cancel()
        if isinstance(outcome, httpx.TransportError):
            raise outcome
        return outcome

    async def _write(self, *parts: bytes) -> None:
        # An error here is left to the reader: an answer may have come before it, and if none
        # did, a connection that takes no more bytes gives none either.
        with suppress(*_BROKEN):
            for part in parts:
                for start in range(0, len(part), ONE_WRITE):
                    await self._stream.send(part[start : start + ONE_WRITE])
            self._is_written = True

    async def _read_head(self) -> h11.Response:
        for _ in range(MAX_INTERIM + 1):
            event = self._next_event()
            while event is h11.NEED_DATA:
                await self._receive()
                event = self._next_event()
            self._check_head(event)
            if isinstance(event, h11.Response):
                return event
        raise httpx.RemoteProtocolError("the backend sent too many interim responses")

    def _check_head(self, event: object) -> None:
        """Refuse what h11 lets pass: sizes when all came at once, odd statuses, two framings."""
        if self._received - len(self._parser.trailing_data[0]) > self._max_head:
            raise httpx.RemoteProtocolError("the headers of the backend's answer are too large")
        if not isinstance(event, (h11.Response, h11.InformationalResponse)):
            _refuse()
        if event.status_code == httpx.codes.SWITCHING_PROTOCOLS or event.status_code > LAST_STATUS:
            _refuse()
        if {b"content-length", b"transfer-encoding"} <= {name for name, _ in event.headers}:
            _refuse()

    async def read_chunk(self) -> bytes:
        """Read what one read of the stream adds to the body; b"" is its end."""
        parts: list[bytes] = []
        while not self.is_complete:
            try:
                event = self._next_event()
            except httpx.RemoteProtocolError:
                if parts:
                    break  # h11 stays in its error: the next call raises it
                raise
            if isinstance(event, h11.Data):
                parts.append(event.data)
            elif event is h11.NEED_DATA and parts:
                break
            elif event is h11.NEED_DATA:
                await self._receive()
            elif not isinstance(event, h11.EndOfMessage):
                _refuse()
        return b"".join(parts)

    def _next_event(self) -> object:
        try:
            return self._parser.next_event()
        except h11.RemoteProtocolError as error:
            raise httpx.RemoteProtocolError("the backend's answer broke HTTP") from error

    async def _receive(self) -> None:
        try:
            data = await self._stream.receive()
        except anyio.EndOfStream:
            data = b""
        except _BROKEN as error:
            raise httpx.ReadError("the connection to the backend broke") from error
        self._received += len(data)
        self._parser.receive_data(data)


def _refuse() -> NoReturn:
    raise httpx.RemoteProtocolError("the backend's answer broke HTTP")


@attrs.define(eq=False)
class _Body(httpx.AsyncByteStream):
    """An answer's body and the owner of its connection; not a generator, so that nothing is
    left to the garbage collector when a reader stops in the middle.
    """

    _connection: _Connection
    _lifetime: AsyncExitStack

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._connection.read_chunk()
        except BaseException:
            await self.aclose()
            raise
        if self._connection.is_complete:
            await self.aclose()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Close the connection at once, in any state, as often as wanted."""
        await self._lifetime.aclose()
