"""HTTP/1.1 for one connection: hypercorn's `H11Protocol`, changed so that its reader never stops.

In stock hypercorn the reading task can stop for good in three places: it pauses when a second
request arrives early (and then no longer sees the client leave), it blocks when an application
answers without reading the body, and it upgrades to h2c or websocket without asking the
application. Here the reader stores bytes (`receive`) and hands on the events that h11 makes of them
(`advance`); neither waits for an application. While a response is pending, nothing is handed on and
the reader reads on: early bytes of the next request wait, up to `read_ahead`, and the end of the
connection is seen at once. The task that ends the response then handles the early bytes. While a
body arrives, the reader waits for `wait_for_room`, which is the back-pressure.

`Upgrade` and `PRI` are ordinary requests here; requests that hypercorn and h11 refuse themselves
get our error response. `docs/decisions/0005-accept-loop.md` lists the private names relied on.
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
from hypercorn.typing import AppWrapper, ConnectionState, H11SendableEvent, TaskGroup, WorkerContext
from hypercorn.utils import suppress_body

from ollama_gateway.errors import BadRequest, GatewayError, HeadersTooLarge
from ollama_gateway.http.connection_input import ConnectionInput
from ollama_gateway.http.heads import chunked_head, phrase_of, whole_head, with_connection_close
from ollama_gateway.http.request_stream import RequestStream
from ollama_gateway.reasons import Reason
from ollama_gateway.wire.headers import Headers
from ollama_gateway.wire.receive_buffer import HeadBroken, HeadTooLarge

_REQUEST_IS_COMING: Final = {h11.IDLE, h11.SEND_BODY, h11.ERROR}
"""The states in which more of a request may come. The final states are not listed instead, because
with `Upgrade` or `CONNECT` h11 has one more of them, in which it waits for our answer."""

EarlyErrorRenderer = Callable[[GatewayError], tuple[list[tuple[bytes, bytes]], bytes]]
"""Turns an error that came before any request was understood into response headers and body."""


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
        self._input = ConnectionInput(config.h11_max_incomplete_size, turn)
        self._render_early_error = render_early_error
        self.is_answering = False
        """An ordinary answer has begun and has not ended."""
        self._head = b""
        """The head of that answer, until it is written."""
        self._is_over = False

    @property
    def http(self) -> h11.Connection:
        """The h11 connection; hypercorn's type allows a websocket here, which never occurs."""
        return self.connection  # type: ignore[return-value]

    @property
    def request_stream(self) -> RequestStream:
        """The stream of the current request, or of the last one."""
        return self._input.request_stream

    @property
    def unread(self) -> int:
        """Bytes received since the last request was whole: a partial head, or early requests."""
        return len(self._input.early)

    @property
    def is_idle(self) -> bool:
        """True if no request is being received or answered."""
        return self.http.our_state is h11.IDLE and self.http.their_state is h11.IDLE

    @property
    def is_between_requests(self) -> bool:
        """True if the connection is idle and no byte of a next request has come."""
        return self.is_idle and not self.unread

    @property
    def response_is_pending(self) -> bool:
        """True if the request is whole and its answer is not."""
        return self.http.their_state not in _REQUEST_IS_COMING

    @property
    def response_is_cut(self) -> bool:
        """True if the answer has begun and has not ended."""
        return self.is_answering or self.http.our_state in {h11.SEND_BODY, h11.ERROR}

    @property
    def client_still_sends(self) -> bool:
        """True if a close would meet unread bytes, and so make the kernel send a reset."""
        return self.http.their_state in {h11.SEND_BODY, h11.ERROR} or self.unread > 0

    @property
    def end_is_close(self) -> bool:
        """True if only the close marks the end of the answer's body (HTTP/1.0 and before)."""
        return (self.http.their_http_version or b"") < b"1.1"

    def receive(self, data: bytes) -> None:
        """Store bytes from the socket."""
        self._input.put(data)

    async def advance(self) -> None:
        """Hand stored bytes on to the application; waits only while it writes an error response."""
        while not self.response_is_pending and not self._is_over:
            try:
                event = self._input.next_event(self.http)
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
        self._input.begin(self.http, headers)
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
        """Send `100 Continue` if the client waits for it; called when the body is wanted."""
        if self.http.they_are_waiting_for_100_continue and self.request_stream.is_empty:
            await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=[]))

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        """Add the reason phrase, which hypercorn leaves out, to a response."""
        if isinstance(event, h11.Response) and not event.reason:
            event = h11.Response(
                status_code=event.status_code,
                headers=event.headers,
                reason=phrase_of(event.status_code),
            )
        await super()._send_h11_event(event)

    async def stream_send(self, event: StreamEvent) -> None:
        """Send a part of a response; the last response of the connection says `Connection: close`.

        A response is the last during a drain, and when it does not wait for the end of its request.
        """
        if isinstance(event, Response) and self._is_last:
            headers = with_connection_close(event.headers)
            event = Response(STREAM_ID, headers=headers, status_code=event.status_code)
        await super().stream_send(event)

    @property
    def _is_last(self) -> bool:
        return self.context.terminated.is_set() or self.http.their_state is h11.SEND_BODY

    async def respond(self, status: int, headers: Headers, body: bytes) -> bool:
        """Write a whole answer at once; return False if it is not ordinary (see `heads.py`)."""
        head = whole_head(status, self._dated(headers), len(body))
        if head is None or not self._is_ordinary(status):
            return False
        await self._finish(head + body)
        return True

    def begin(self, status: int, headers: Headers) -> bool:
        """Begin a chunked answer; return False if it is not ordinary (see `heads.py`)."""
        head = chunked_head(status, self._dated(headers))
        if head is None or not self._is_ordinary(status):
            return False
        cast("HTTPStream", self.stream).state = ASGIHTTPState.RESPONSE
        self._head, self.is_answering = head, True
        return True

    async def send_chunk(self, data: bytes) -> None:
        """Write a chunk (RFC 9112, 7.1) of the answer that `begin` began."""
        if data:
            await self.send(RawData(self._chunk(data)))

    async def end_chunks(self, data: bytes) -> None:
        """Write the last chunk, if `data` is not empty, and the end of the answer."""
        await self._finish(self._chunk(data) + b"0\r\n\r\n")

    def _chunk(self, data: bytes) -> bytes:
        """Return the bytes of a chunk, after those of the head if it is not written yet."""
        head, self._head = self._head, b""
        return b"%b%x\r\n%b\r\n" % (head, len(data), data) if data else head

    def _dated(self, headers: Headers) -> Headers:
        return [*headers, *self.config.response_headers("h11")]

    def _is_ordinary(self, status: int) -> bool:
        """Return True if the answer has a body and the connection stays open after it."""
        stream = cast("HTTPStream | None", self.stream)  # None if the client has left
        return (
            stream is not None
            and self.http.their_state is h11.DONE
            and self.http.our_state is h11.SEND_RESPONSE
            and not self.context.terminated.is_set()
            and not suppress_body(stream.scope["method"], status)
        )

    async def _finish(self, data: bytes) -> None:
        """Write the end of an ordinary answer, and get ready for the next request."""
        self.is_answering = True  # if the write is cut, the answer is cut
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
        """Begin the next request with a new h11 connection: the old one saw no answer."""
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
        """Tell the application that the client has left; bytes go through `receive`."""
        if isinstance(event, Closed):
            await super().handle(event)

    def stop(self) -> None:
        """Begin no more requests."""
        self._is_over = True

    def break_cycles(self) -> None:
        """Drop references that form cycles, so that the closed connection is freed at once."""
        self.connection_state.clear()
        self._input.break_cycles()
        self.task_group = self.send = cast("Any", None)

    async def refuse(self, error: GatewayError) -> None:
        """Send our own error response if no answer has begun, and close."""
        self.stop()
        if self.http.our_state in {h11.IDLE, h11.SEND_RESPONSE} and not self.is_answering:
            headers, body = self._render_early_error(error)
            head = with_connection_close([*headers, *self.config.response_headers("h11")])
            status, phrase = error.status, phrase_of(error.status)
            response = h11.Response(status_code=status, headers=cast("Any", head), reason=phrase)
            parts = (response, h11.Data(data=body), h11.EndOfMessage())
            await self.send(RawData(b"".join(self.http.send(part) or b"" for part in parts)))
        await self.send(Closed())


def _refused(error: Exception) -> GatewayError:
    """Translate an error about a request head; h11's text is not used: it quotes the client."""
    if isinstance(error, HeadTooLarge):
        return HeadersTooLarge()
    message = str(error) if isinstance(error, HeadBroken) else "the request is not valid HTTP"
    return BadRequest(message, reason=Reason.BAD_REQUEST_HEAD)
