"""One HTTP/1.1 connection: h11 reads, the exchange writes, and a watcher waits for the close.

While an answer is being sent, a second task goes on reading. Early bytes (a pipelined request) stay
in h11's buffer for the next cycle; an end of the stream means that the client has gone, and the
exchange is cancelled at once, like Ollama's runner. A half-close counts as a close, as in Go. A
caller that counts exchanges cannot wait for the watcher's turn: it asks the socket itself.

The rule: a client can at most end its own connection. A defect of the simulator itself is raised,
so the test that met it fails.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

import anyio
import attrs
import h11
from anyio.abc import ByteStream, SocketAttribute

from ollama_gateway.simulator.exchange import UPLOADS, Cut, Exchange, Seen, Upload
from ollama_gateway.simulator.streams import MemoryByteStream

MAX_HEAD = 1 << 20
MAX_EARLY = 1 << 18
BAD_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Connection: close\r\n\r\n400 Bad Request"
)
BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


class Gone(Exception):
    """The client closed the connection."""


@attrs.define(eq=False)
class Connection:
    """Serves one connection until either side closes it.

    Args:
        stream: the bytes; the caller closes it.
        note: called with every request as soon as its head was read.
        answer: answers a request that was read completely.

    """

    _stream: ByteStream
    _note: Callable[[Seen], None]
    _answer: Callable[[Exchange], Awaitable[None]]
    _http: h11.Connection = attrs.field(
        factory=lambda: h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    )
    _socket: socket.socket | None = attrs.field(init=False)

    @_socket.default
    def _raw_socket(self) -> socket.socket | None:
        return self._stream.extra(SocketAttribute.raw_socket, None)  # noqa: S610 - no Django

    async def serve(self) -> None:
        """Answer requests one after the other until the connection is over."""
        try:
            while await self._cycle():
                self._http.start_next_cycle()
        except h11.RemoteProtocolError:
            await self._refuse()
        except (Gone, *BROKEN):
            return

    async def _cycle(self) -> bool:
        """Serve one request; return whether another may follow."""
        head = await self._event()
        if not isinstance(head, h11.Request):
            return False
        if head.http_version not in (b"1.0", b"1.1"):
            raise h11.RemoteProtocolError("version")
        seen = _seen(head)
        self._note(seen)
        try:
            await self._body(seen)
            return await self._exchange(seen)
        except (Gone, *BROKEN):
            if seen.gone_at is None:
                seen.gone_at = anyio.current_time()
            raise

    async def _exchange(self, seen: Seen) -> bool:
        path, _, query = seen.path.partition("?")
        exchange = Exchange(
            seen, unquote(path), query, self._http, self._stream.send, self._is_client_gone
        )
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch, exchange, tasks.cancel_scope)
            failure = await self._outcome(exchange)
            tasks.cancel_scope.cancel()
        if seen.gone_at is not None or isinstance(failure, BROKEN):
            raise Gone
        if failure is not None and exchange.script.reset:
            await self._reset()
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _outcome(self, exchange: Exchange) -> Exception | None:
        """Run the answer; return the error that ended it early, so no group is raised."""
        try:
            await self._answer(exchange)
        except (Cut, *BROKEN) as error:
            return error
        return None

    async def _watch(self, exchange: Exchange, scope: anyio.CancelScope) -> None:
        try:
            while len(self._http.trailing_data[0]) < MAX_EARLY:
                self._http.receive_data(await self._stream.receive())
        except (anyio.EndOfStream, *BROKEN):
            if not exchange.is_ending:
                exchange.seen.gone_at = anyio.current_time()
                scope.cancel()

    def _is_client_gone(self) -> bool:
        if isinstance(self._stream, MemoryByteStream):
            return self._stream.is_peer_gone()
        return self._socket is not None and _is_closed(self._socket)

    async def _event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self._continue()
            self._http.receive_data(await self._receive())
        return event

    async def _body(self, seen: Seen) -> None:
        pieces: list[bytes] = []
        take = seen.upload.take if seen.upload else pieces.append
        while isinstance(event := await self._event(), h11.Data):
            take(bytes(event.data))
        seen.body = b"".join(pieces)

    async def _receive(self) -> bytes:
        try:
            return await self._stream.receive()
        except anyio.EndOfStream:
            raise Gone from None

    async def _continue(self) -> None:
        head = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
        await self._stream.send(self._http.send(head) or b"")

    async def _refuse(self) -> None:
        with contextlib.suppress(*BROKEN):
            await self._stream.send(BAD_REQUEST)

    async def _reset(self) -> None:
        """Close with a reset if the stream can do so."""
        if isinstance(self._stream, MemoryByteStream):
            await self._stream.abort()
            return
        if self._socket is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _is_closed(connected: socket.socket) -> bool:
    """Return whether the peer has closed or reset a connection, without reading from it."""
    try:
        return connected.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _seen(head: h11.Request) -> Seen:
    method, target = head.method.decode("latin-1"), head.target.decode("latin-1")
    is_upload = method == "POST" and target.startswith(UPLOADS)
    return Seen(
        method,
        target,
        list(head.headers),
        anyio.current_time(),
        upload=Upload() if is_upload else None,
    )
