"""The client's side of one request, over ASGI.

`listen` runs beside the handler for as long as it runs. It does not touch the request's body
until that is wanted (so a bad key is refused before a byte of it is read, and `100 Continue` goes
out only then), and once an answer has begun it reads on and drops what comes: in hypercorn an
unread body would block the connection for ever. It sees the client leave, and cancels the
request's scope.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import attrs

from ollama_gateway.errors import BodyTooLarge, GatewayError, RequestTimeout
from ollama_gateway.flow.ask import Headers
from ollama_gateway.server.bodies import GRACE, SLOWEST, Room
from ollama_gateway.wire.encoding import ZSTD, decoded

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


@attrs.define(eq=False)
class ASGIDownstream:
    """One request's way in and out; see `flow.ask.Downstream` for the contract."""

    receive: Receive
    transmit: Send
    room: Room
    send_continue: Callable[[], Awaitable[None]] | None
    announced: int | None
    """The request's Content-Length."""
    answer_headers: Headers
    """Sent with every answer: the request id."""
    coding: bytes = b""
    """How the request's body is compressed: not at all, or zstd."""
    is_gone: bool = attrs.field(default=False, init=False)
    has_started: bool = attrs.field(default=False, init=False)
    _head_is_out: bool = attrs.field(default=False, init=False)
    _wanted: anyio.Event = attrs.field(factory=anyio.Event, init=False)
    _whole: anyio.Event = attrs.field(factory=anyio.Event, init=False)
    _deadline: anyio.CancelScope = attrs.field(factory=anyio.CancelScope, init=False)
    _parts: list[bytes] = attrs.field(factory=list, init=False)
    _problem: GatewayError | None = attrs.field(default=None, init=False)

    async def listen(self, request: anyio.CancelScope) -> None:
        """Receive until the client leaves, which cancels `request`."""
        await self._wanted.wait()
        while True:
            event = await self.receive()
            if event["type"] == "http.disconnect":
                self.is_gone = True
                request.cancel()
                return
            if not self.has_started and self._problem is None:
                self._keep(event["body"])
            if not event.get("more_body", False):
                self._whole.set()

    def _keep(self, data: bytes) -> None:
        if self.room.taken + len(data) > self.room.budget.limit:
            self._problem = BodyTooLarge()
        else:
            try:
                self.room.take(len(data))
                self._parts.append(data)
                earned = self._deadline.deadline + len(data) / SLOWEST
                self._deadline.deadline = min(earned, anyio.current_time() + GRACE)
            except GatewayError as problem:
                self._problem = problem
        if self._problem is not None:
            self._whole.set()

    async def body(self) -> bytes:
        """The whole request body, decoded, within its bounds of size and time."""
        if self.announced is not None and self.announced > self.room.budget.limit:
            raise BodyTooLarge
        if self.send_continue is not None:
            await self.send_continue()
        self._deadline.deadline = anyio.current_time() + GRACE
        self._wanted.set()
        with self._deadline:
            await self._whole.wait()
        if self._deadline.cancelled_caught:
            raise RequestTimeout(reason="slow_body")
        if self._problem is not None:
            raise self._problem
        body, self._parts = b"".join(self._parts), []
        return await self._decoded(body) if self.coding == ZSTD else body

    async def _decoded(self, body: bytes) -> bytes:
        """What was compressed, which is bounded as if it had come so; others have their turns."""
        size, parts = 0, []
        for part in decoded(body):
            size += len(part)
            if size > self.room.budget.limit:
                raise BodyTooLarge
            self.room.take(len(part))
            parts.append(part)
            await anyio.lowlevel.checkpoint()
        return b"".join(parts)

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head of an answer."""
        self.has_started = True
        self._wanted.set()
        head = [*headers, *self.answer_headers]
        await self.transmit({"type": "http.response.start", "status": status, "headers": head})
        self._head_is_out = True

    async def send(self, data: bytes) -> None:
        """Send a part of the answer; returns when the kernel has taken it."""
        if not self._head_is_out:
            return  # its head was cancelled half-way: the connection is being reset
        await self.transmit({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """End the answer."""
        await self.transmit({"type": "http.response.body", "body": b"", "more_body": False})

    async def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer."""
        length = (b"content-length", b"%d" % len(body))
        await self.start(status, [*headers, length])
        await self.transmit({"type": "http.response.body", "body": body, "more_body": False})
