"""The client's side of one request, over ASGI.

The request's body is not touched until it is wanted, so a bad key is refused before a byte of it
is read, and `100 Continue` goes out only then. That the client leaves is told by the connection and
not by `receive`: no task has to wait for it (`http/request_stream.py`).
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol

import attrs
import trio

from ollama_gateway import clock
from ollama_gateway.errors import BodyTooLarge, RequestTimeout
from ollama_gateway.flow.ask import SMALL
from ollama_gateway.server.bodies import (
    AT_HAND_SECONDS,
    BODY_GRACE_SECONDS,
    MIN_BODY_RATE,
    MIN_WHOLE_BODY_RATE,
    WHOLE_BODY_SECONDS,
    BodyShare,
)
from ollama_gateway.server.pacer import StartPacer
from ollama_gateway.turns import done
from ollama_gateway.wire.encoding import ZSTD, Decoder
from ollama_gateway.wire.headers import Headers
from ollama_gateway.wire.large import Intake, RequestBody, is_dense, request_limits

Send = Callable[[Any], Awaitable[None]]


class Receive(Protocol):
    """The way in; see `inbox.Inbox`."""

    @property
    def is_empty(self) -> bool:
        """Whether the next event has to be waited for."""
        ...

    async def __call__(self) -> Any:
        """The next ASGI event."""
        ...

    def drop(self) -> None:
        """Throw away what nobody wants any more."""
        ...


@attrs.define(eq=False)
class ASGIDownstream:
    """One request's way in and out; see `flow.ask.Downstream` for the contract."""

    receive: Receive
    transmit: Send
    share: BodyShare
    send_continue: Callable[[], Awaitable[None]] | None
    announced: int | None
    """The request's Content-Length."""
    answer_headers: Headers
    """Sent with every answer: the request id."""
    coding: bytes = b""
    """How the request's body is compressed: not at all, or zstd."""
    pacer: StartPacer = attrs.field(factory=StartPacer)
    """Where a stream lets those that begin go first."""
    is_gone: bool = attrs.field(default=False, init=False)
    has_started: bool = attrs.field(default=False, init=False)
    tells_errors: bool = attrs.field(default=True, init=False)
    _head_is_out: bool = attrs.field(default=False, init=False)
    _is_ending: bool = attrs.field(default=False, init=False)
    _has_begun: bool = attrs.field(default=False, init=False)
    """Whether the body was asked for."""
    _has_more: bool = attrs.field(default=True, init=False)
    _slack: float = attrs.field(default=BODY_GRACE_SECONDS, init=False)
    """Seconds for which the next piece of the body may keep whoever wants it waiting."""
    _whole_by: float = attrs.field(default=math.inf, init=False)
    """When the last piece has to be there."""
    _buffered: bytearray = attrs.field(factory=bytearray, init=False)
    """What came of the body, and was not given to who wants it yet."""

    def cancel_on_disconnect(self, request: trio.CancelScope) -> Callable[[], None]:
        """What is to be called when the client leaves: it cancels `request`."""

        def left() -> None:
            if not self._is_ending:
                self.is_gone = True
                request.cancel()

        return left

    async def is_at_hand(self) -> bool:
        """Whether the body is small and all of it is there, or comes at once; none that is
        compressed is small.
        """
        if self.announced is None or self.announced > SMALL or self.coding:
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
        """The whole request body, decoded, within its bounds of size and time.

        A large one is read while it comes, and refused as soon as nothing good can come of it.
        """
        self.share.key_id = key_id
        began, received = clock.now(), 0
        if self.announced is not None and self.announced > self.share.budget.limit:
            raise BodyTooLarge
        containers = self.share.budget.containers
        if not (self._has_more or self.coding or is_dense(self._buffered, containers)):
            body = bytes(self._buffered)  # it was at hand
            self._buffered.clear()
            self.share.take(len(body))
            return body
        intake = Intake(request_limits(containers))
        decoder = Decoder() if self.coding == ZSTD else None
        self._whole_by = began + WHOLE_BODY_SECONDS + (self.announced or 0) / MIN_WHOLE_BODY_RATE
        while piece := await self.next_piece():
            received += len(piece)
            if received > self.share.budget.limit:
                raise BodyTooLarge
            self.share.take(len(piece))
            if self.announced is None:
                self._whole_by = began + WHOLE_BODY_SECONDS + received / MIN_WHOLE_BODY_RATE
            if decoder is None:
                intake.add(piece)
                if intake.has_work:
                    await done(intake.work())
            else:
                await self._add_decoded(intake, decoder.feed(piece))
        if decoder is not None:
            decoder.end()
        return await done(intake.end())

    async def _add_decoded(self, intake: Intake, parts: Iterator[bytes]) -> None:
        """What was compressed is bounded as if it had come so; others have their turns."""
        for part in parts:
            if intake.size + len(part) > self.share.budget.limit:
                raise BodyTooLarge
            self.share.take(len(part))
            intake.add(part)
            if intake.has_work:
                await done(intake.work())
            await trio.lowlevel.checkpoint()

    async def next_piece(self) -> bytes:
        """What comes next of the body, which is received no faster than this is called; b"" at its
        end. Raises RequestTimeout where it comes too slowly.
        """
        await self._begin()
        piece = bytes(self._buffered)
        self._buffered.clear()
        while self._has_more and not piece:
            piece = await (self._received_in_time() if self.receive.is_empty else self._received())
            self._slack = min(BODY_GRACE_SECONDS, self._slack + len(piece) / MIN_BODY_RATE)
        return piece

    async def _begin(self) -> None:
        """Let the client know that its body is wanted, where it waits for that."""
        if not self._has_begun:
            self._has_begun = True
            if self.send_continue is not None:
                await self.send_continue()

    async def _received_in_time(self) -> bytes:
        began, piece = clock.now(), b""
        with trio.move_on_at(min(began + self._slack, self._whole_by)) as waiting:
            piece = await self._received()
        if waiting.cancelled_caught:
            raise RequestTimeout(reason="slow_body")
        self._slack -= clock.now() - began
        return piece

    async def _received(self) -> bytes:
        event = await self.receive()
        if event["type"] == "http.disconnect":
            await trio.sleep_forever()  # whoever says so has cancelled this request
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
        """Send a part of the answer; returns when the kernel has taken it, and more may come."""
        if not self._head_is_out or self._is_ending:
            return  # its head was cancelled half-way, or a next request may have the connection
        await self.transmit({"type": "http.response.body", "body": data, "more_body": True})
        await self.pacer.give_way()

    async def end(self, data: bytes = b"") -> None:
        """End the answer, with its last part."""
        if self._head_is_out:
            self._is_ending = True  # the connection's own end of it is nobody's leaving
            await self.transmit({"type": "http.response.body", "body": data, "more_body": False})

    async def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer."""
        length = (b"content-length", b"%d" % len(body))
        await self.start(status, [*headers, length])
        await self.end(body)
