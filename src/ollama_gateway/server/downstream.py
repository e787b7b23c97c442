"""The client side of one request, over ASGI.

The request's body is not touched until it is wanted, so a bad key is refused before a byte of the
body is read, and `100 Continue` is sent only when the body is wanted. The connection reports that
the client has left through a callback, so no task has to wait in `receive` for it
(`http/request_stream.py`).
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol

import attrs
import trio

from ollama_gateway import clock
from ollama_gateway.errors import BodyTooLarge, RequestTimeout
from ollama_gateway.flow.ask import SMALL_BODY_BYTES
from ollama_gateway.reasons import Reason
from ollama_gateway.server.bodies import (
    AT_HAND_SECONDS,
    BODY_GRACE_SECONDS,
    MIN_BODY_RATE,
    MIN_WHOLE_BODY_RATE,
    WHOLE_BODY_SECONDS,
    BodyShare,
)
from ollama_gateway.server.pacer import StartPacer
from ollama_gateway.turns import in_turns
from ollama_gateway.wire.encoding import ZSTD, Decoder
from ollama_gateway.wire.headers import Headers
from ollama_gateway.wire.large import BodyReader, RequestBody, is_dense, request_limits

Send = Callable[[Any], Awaitable[None]]


class Receive(Protocol):
    """ASGI's `receive`, with two additions; see `http.request_stream.RequestStream`."""

    @property
    def is_empty(self) -> bool:
        """True if receiving would have to wait."""
        ...

    async def __call__(self) -> Any:
        """Return the next ASGI event."""
        ...

    def drop(self) -> None:
        """Discard the rest of the body."""
        ...


@attrs.define(eq=False)
class ASGIDownstream:
    """The request body and the answer of one request; see `flow.ask.Downstream`."""

    receive: Receive
    transmit: Send
    share: BodyShare
    send_continue: Callable[[], Awaitable[None]] | None
    announced: int | None
    """The request's Content-Length."""
    answer_headers: Headers
    """Headers sent with every answer, such as the request id."""
    coding: bytes = b""
    """The body's compression: zstd, or empty for none."""
    pacer: StartPacer = attrs.field(factory=StartPacer)
    """Lets requests that wait to start go first, while this one streams."""
    is_gone: bool = attrs.field(default=False, init=False)
    has_started: bool = attrs.field(default=False, init=False)
    tells_errors: bool = attrs.field(default=True, init=False)
    _head_is_out: bool = attrs.field(default=False, init=False)
    _is_ending: bool = attrs.field(default=False, init=False)
    _has_begun: bool = attrs.field(default=False, init=False)
    """Whether the body has been asked for."""
    _has_more: bool = attrs.field(default=True, init=False)
    _slack: float = attrs.field(default=BODY_GRACE_SECONDS, init=False)
    """Seconds that the next part of the body may take."""
    _whole_by: float = attrs.field(default=math.inf, init=False)
    """The time by which the last part must be there."""
    _buffered: bytearray = attrs.field(factory=bytearray, init=False)
    """Bytes of the body that have been received and not returned yet."""

    def cancel_on_disconnect(self, request: trio.CancelScope) -> Callable[[], None]:
        """Return the callback for the client's leaving; it cancels `request`."""

        def left() -> None:
            if not self._is_ending:
                self.is_gone = True
                request.cancel()

        return left

    async def is_at_hand(self) -> bool:
        """Return True if the body is small, and whole now or in a moment.

        A compressed body never counts as small.
        """
        if self.announced is None or self.announced > SMALL_BODY_BYTES or self.coding:
            return False
        await self._begin()
        while self._has_more and not self.receive.is_empty:
            self._buffered += await self._received()
        if self._has_more:
            with trio.move_on_after(AT_HAND_SECONDS):
                while self._has_more:
                    self._buffered += await self._received()
        return not self._has_more

    async def body(self, key_id: str = "") -> RequestBody:
        """Read the whole request body, decoded, within its bounds of size and time.

        A large body is parsed while it arrives, and refused at the first fault.
        """
        self.share.key_id = key_id
        began, received = clock.now(), 0
        if self.announced is not None and self.announced > self.share.budget.limit:
            raise BodyTooLarge
        containers = self.share.budget.containers
        if not (self._has_more or self.coding or is_dense(self._buffered, containers)):
            body = bytes(self._buffered)  # the body was at hand
            self._buffered.clear()
            self.share.take(len(body))
            return body
        intake = BodyReader(request_limits(containers))
        decoder = Decoder() if self.coding == ZSTD else None
        self._whole_by = began + WHOLE_BODY_SECONDS + (self.announced or 0) / MIN_WHOLE_BODY_RATE
        while chunk := await self.next_chunk():
            received += len(chunk)
            if received > self.share.budget.limit:
                raise BodyTooLarge
            self.share.take(len(chunk))
            if self.announced is None:
                self._whole_by = began + WHOLE_BODY_SECONDS + received / MIN_WHOLE_BODY_RATE
            if decoder is None:
                intake.add(chunk)
                if intake.has_work:
                    await in_turns(intake.work())
            else:
                await self._add_decoded(intake, decoder.feed(chunk))
        if decoder is not None:
            decoder.end()
        return await in_turns(intake.end())

    async def _add_decoded(self, intake: BodyReader, parts: Iterator[bytes]) -> None:
        """Add decompressed parts, bounded like plain bytes; let other tasks run in between."""
        for part in parts:
            if intake.size + len(part) > self.share.budget.limit:
                raise BodyTooLarge
            self.share.take(len(part))
            intake.add(part)
            if intake.has_work:
                await in_turns(intake.work())
            await trio.lowlevel.checkpoint()

    async def next_chunk(self) -> bytes:
        """Return the next part of the body, or b"" at its end; raises RequestTimeout if it is slow.

        The body is received no faster than this is called.
        """
        await self._begin()
        chunk = bytes(self._buffered)
        self._buffered.clear()
        while self._has_more and not chunk:
            chunk = await (self._received_in_time() if self.receive.is_empty else self._received())
            self._slack = min(BODY_GRACE_SECONDS, self._slack + len(chunk) / MIN_BODY_RATE)
        return chunk

    async def _begin(self) -> None:
        """Ask for the body, once: a client may wait for `100 Continue`."""
        if not self._has_begun:
            self._has_begun = True
            if self.send_continue is not None:
                await self.send_continue()

    async def _received_in_time(self) -> bytes:
        began, chunk = clock.now(), b""
        with trio.move_on_at(min(began + self._slack, self._whole_by)) as waiting:
            chunk = await self._received()
        if waiting.cancelled_caught:
            raise RequestTimeout(reason=Reason.SLOW_BODY)
        self._slack -= clock.now() - began
        return chunk

    async def _received(self) -> bytes:
        event = await self.receive()
        if event["type"] == "http.disconnect":
            await trio.sleep_forever()  # the disconnect has cancelled this request
        self._has_more = event.get("more_body", False)
        return bytes(event["body"])

    async def start(self, status: int, headers: Headers, *, tells_errors: bool = True) -> None:
        """Send the head of an answer."""
        self.has_started, self.tells_errors = True, tells_errors
        self.receive.drop()
        head = [*headers, *self.answer_headers]
        await self.transmit({"type": "http.response.start", "status": status, "headers": head})
        self._head_is_out = True

    async def send(self, data: bytes) -> None:
        """Send a part of the answer; return when the kernel has taken it and more may be sent."""
        if not self._head_is_out or self._is_ending:
            return  # the head was cut, or the next request may have the connection
        await self.transmit({"type": "http.response.body", "body": data, "more_body": True})
        await self.pacer.give_way()

    async def end(self, data: bytes = b"") -> None:
        """End the answer, with its last part."""
        if self._head_is_out:
            self._is_ending = True  # from here on the end of the connection is no disconnect
            await self.transmit({"type": "http.response.body", "body": data, "more_body": False})

    async def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer."""
        length = (b"content-length", b"%d" % len(body))
        await self.start(status, [*headers, length])
        await self.end(body)
