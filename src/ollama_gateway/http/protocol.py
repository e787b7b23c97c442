"""HTTP/1.1 for one connection: hypercorn's `H11Protocol`, which never keeps its reader waiting.

Stock hypercorn lets the reading task walk into three places where it stops for good: it pauses
when a second request arrives early (and then no longer sees the client leave), it blocks when an
application answers without reading the body, and it upgrades to h2c or websocket before anyone
was asked. Here the reader stores what came (`receive`) and takes out of h11 what is to be handed on
(`advance`), and neither waits for an application. While a response is pending nothing is handed on
and the reader goes on reading: early bytes of the next request wait (bounded by `read_ahead`), and
the end of the connection is seen at once. Whoever ends that response then goes on with them. While
a body arrives, the reader waits for `room`, which is back-pressure.

`Upgrade` and `PRI` are ordinary requests here; what hypercorn and h11 refuse by themselves gets
our error response. `docs/decisions/0005-accept-loop.md` lists the private names relied on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import anyio
import h11
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import Request, Response
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream
from hypercorn.typing import AppWrapper, ConnectionState, TaskGroup, WorkerContext
from hypercorn.utils import suppress_body

from ollama_gateway.errors import BadRequest, GatewayError, HeadersTooLarge
from ollama_gateway.http.heads import chunked_head, whole_head, with_connection_close
from ollama_gateway.http.receive_buffer import ReceiveBuffer
from ollama_gateway.http.request_stream import RequestStream
from ollama_gateway.wire.headers import Headers
from ollama_gateway.wire.incoming import HeadBroken, HeadTooLarge

_REQUEST_IS_COMING: Final = {h11.IDLE, h11.SEND_BODY, h11.ERROR}
"""Not listed by its ends: with `Upgrade` or `CONNECT` h11 has one more, waiting for our word."""

EarlyErrorRenderer = Callable[[GatewayError], tuple[list[tuple[bytes, bytes]], bytes]]
"""Turns an error met before a request was understood into response headers and body."""


class Protocol(H11Protocol):
    """One connection's HTTP/1.1; `receive` and `advance` replace hypercorn's single read loop."""

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        task_group: TaskGroup,
        ends: tuple[tuple[str, int] | None, tuple[str, int] | None],
        send: Callable[[Event], Awaitable[None]],
        render_early_error: EarlyErrorRenderer,
        turn: anyio.Lock,
    ) -> None:
        state = ConnectionState({"send_continue": self.send_continue})
        super().__init__(app, config, context, task_group, state, False, *ends, send)  # noqa: FBT003 - hypercorn's signature: ssl
        self._receive_buffer = ReceiveBuffer(config.h11_max_incomplete_size, turn)
        self._render_early_error = render_early_error
        self.is_answering = False
        """An ordinary answer has begun, and is not over."""
        self._head = b""
        """Its head, where nothing of it is written yet."""
        self._is_over = False

    @property
    def http(self) -> h11.Connection:
        """The h11 connection (hypercorn's type allows a websocket here, which never happens)."""
        return self.connection  # type: ignore[return-value]

    @property
    def request_stream(self) -> RequestStream:
        """Of the request that is received, or was last."""
        return self._receive_buffer.request_stream

    @property
    def unread(self) -> int:
        """Bytes received since the last request was whole: a partial head, or early bytes."""
        return len(self._receive_buffer.early)

    @property
    def is_idle(self) -> bool:
        """No request is being received or answered."""
        return self.http.our_state is h11.IDLE and self.http.their_state is h11.IDLE

    @property
    def is_between_requests(self) -> bool:
        """Idle, and not a byte of a next request has come."""
        return self.is_idle and not self.unread

    @property
    def response_is_pending(self) -> bool:
        """The request is whole, its answer is not."""
        return self.http.their_state not in _REQUEST_IS_COMING

    @property
    def response_is_cut(self) -> bool:
        """The answer was begun and not ended."""
        return self.is_answering or self.http.our_state in {h11.SEND_BODY, h11.ERROR}

    @property
    def client_still_sends(self) -> bool:
        """Closing now would meet unread bytes: the kernel would send a reset after the answer."""
        return self.http.their_state in {h11.SEND_BODY, h11.ERROR} or self.unread > 0

    @property
    def end_is_close(self) -> bool:
        """The body's end is marked by the close alone (HTTP/1.0 and before)."""
        return (self.http.their_http_version or b"") < b"1.1"

    def receive(self, data: bytes) -> None:
        """Store what the socket gave."""
        self._receive_buffer.put(data)

    async def advance(self) -> None:
        """Hand on to the application what is there; waits for nothing but a refusal's write."""
        while not self.response_is_pending and not self._is_over:
            try:
                event = self._receive_buffer.next_event(self.http)
            except (h11.RemoteProtocolError, HeadBroken) as error:
                await self.refuse(_refused(error))
                return
            if isinstance(event, h11.Request):
                await self.send(Updated(idle=False))
                await self._create_stream(event)
            elif isinstance(event, h11.Data):
                self.request_stream.put(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self.request_stream.end()
            else:
                return  # h11 needs more bytes

    async def _create_stream(self, request: h11.Request) -> None:
        headers = list(request.headers)
        self._receive_buffer.begin(self.http, headers)
        self.keep_alive_requests += 1
        self.stream = HTTPStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=headers,
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii"),
                raw_path=request.target,
                state=self.connection_state,
            )
        )

    async def send_continue(self) -> None:
        """Send `100 Continue` if the client waits for one: called when the body is wanted."""
        if self.http.they_are_waiting_for_100_continue and self.request_stream.is_empty:
            await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=[]))

    async def stream_send(self, event: StreamEvent) -> None:
        """Send a part of a response; the connection's last one says `Connection: close`.

        It is the last while draining, and where it does not wait for the end of the request.
        """
        if isinstance(event, Response) and self._is_last:
            headers = with_connection_close(event.headers)
            event = Response(STREAM_ID, headers=headers, status_code=event.status_code)
        await super().stream_send(event)

    @property
    def _is_last(self) -> bool:
        return self.context.terminated.is_set() or self.http.their_state is h11.SEND_BODY

    async def respond(self, status: int, headers: Headers, body: bytes) -> bool:
        """Write a whole answer in one piece; False where it is no ordinary one: see `heads.py`."""
        head = whole_head(status, self._dated(headers), len(body))
        if head is None or not self._is_ordinary(status):
            return False
        await self._finish(head + body)
        return True

    def begin(self, status: int, headers: Headers) -> bool:
        """Begin an answer in chunks; False where it is no ordinary one."""
        head = chunked_head(status, self._dated(headers))
        if head is None or not self._is_ordinary(status):
            return False
        cast("HTTPStream", self.stream).state = ASGIHTTPState.RESPONSE
        self._head, self.is_answering = head, True
        return True

    async def send_chunk(self, data: bytes) -> None:
        """Write a chunk (RFC 9112, 7.1); of what `begin` has begun."""
        if data:
            await self.send(RawData(self._chunk(data)))

    async def end_chunks(self, data: bytes) -> None:
        """Write the last chunk and the end behind it."""
        await self._finish(self._chunk(data) + b"0\r\n\r\n")

    def _chunk(self, data: bytes) -> bytes:
        """Its bytes, behind those of the head where that is not written yet."""
        head, self._head = self._head, b""
        return b"%b%x\r\n%b\r\n" % (head, len(data), data) if data else head

    def _dated(self, headers: Headers) -> Headers:
        return [*headers, *self.config.response_headers("h11")]

    def _is_ordinary(self, status: int) -> bool:
        """Whether the client gets a body, and the connection stays."""
        stream = cast("HTTPStream | None", self.stream)  # None where the client has left
        return (
            stream is not None
            and self.http.their_state is h11.DONE
            and self.http.our_state is h11.SEND_RESPONSE
            and not self.context.terminated.is_set()
            and not suppress_body(stream.scope["method"], status)
        )

    async def _finish(self, data: bytes) -> None:
        """Write the end of an ordinary answer, and be ready for a next request."""
        self.is_answering = True  # it is cut, if writing is
        if self.stream is not None:
            cast("HTTPStream", self.stream).state = ASGIHTTPState.CLOSED
        await self.send(RawData(data))
        self.is_answering = False
        await self._close_stream()
        if self.context.terminated.is_set():
            await self.send(Closed())
        else:
            await self._start_anew()

    async def _start_anew(self) -> None:
        """Begin a next cycle; h11 was told nothing of the answer that ended this one."""
        self.connection = h11.Connection(
            h11.SERVER, max_incomplete_event_size=self.config.h11_max_incomplete_size
        )
        await self.send(Updated(idle=True))
        if self.unread:
            await self.advance()

    async def _maybe_recycle(self) -> None:
        await super()._maybe_recycle()
        if self.unread and self.is_idle:
            await self.advance()

    async def handle(self, event: Event) -> None:
        """Tell the application that the client is gone; bytes go through `receive`."""
        if isinstance(event, Closed):
            await super().handle(event)

    def stop(self) -> None:
        """Begin no request any more."""
        self._is_over = True

    def break_cycles(self) -> None:
        """Forget the connection, which is over: a circle waits for the garbage collector."""
        self.connection_state.clear()
        self._receive_buffer.break_cycles()
        self.task_group = self.send = cast("Any", None)

    async def refuse(self, error: GatewayError) -> None:
        """Answer by our own error response where none has begun, and close."""
        self.stop()
        if self.http.our_state in {h11.IDLE, h11.SEND_RESPONSE} and not self.is_answering:
            headers, body = self._render_early_error(error)
            head = with_connection_close([*headers, *self.config.response_headers("h11")])
            response = h11.Response(status_code=error.status, headers=cast("Any", head))
            parts = (response, h11.Data(data=body), h11.EndOfMessage())
            await self.send(RawData(b"".join(self.http.send(part) or b"" for part in parts)))
        await self.send(Closed())


def _refused(error: Exception) -> GatewayError:
    """What is no head, as one of our errors; the text of h11's holds bytes of the client."""
    if isinstance(error, HeadTooLarge):
        return HeadersTooLarge()
    message = str(error) if isinstance(error, HeadBroken) else "the request is not valid HTTP"
    return BadRequest(message, reason="bad_request_head")
