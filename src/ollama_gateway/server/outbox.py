"""An application's way out: what ASGI calls `send`, with short ways for what is sent most.

A whole answer, and the chunks of a stream and its end, go past hypercorn's stream, which has a
state and an event for each part of them. So a head waits for what comes behind it, which says what
kind of answer it begins. The heads of streams, and what has no chunks, go the way of hypercorn's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import attrs


class Answering(Protocol):
    """Where answers are written; see `protocol.Protocol`."""

    @property
    def takes_chunks(self) -> bool:
        """An answer in chunks has begun."""
        ...

    async def respond(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Write a whole answer."""
        ...

    async def send_chunk(self, data: bytes) -> None:
        """Write a chunk."""
        ...

    async def end_chunks(self, data: bytes) -> None:
        """Write the last chunk, if there is one, and the end."""
        ...


@attrs.define(eq=False)
class Outbox:
    """The way out of one request."""

    _answer: Answering
    _send: Callable[[Any], Awaitable[None]]
    _head: Any = attrs.field(default=None, init=False)

    async def __call__(self, event: Any) -> None:
        """Send an ASGI event; None where no more will come."""
        head, self._head = self._head, None
        if event is not None and event["type"] == "http.response.start":
            self._head = event
        elif event is None:
            await self._begin(head)
            await self._send(None)
        elif not event.get("more_body"):
            await self._end(head, event)
        else:
            await self._begin(head)
            await self._go_on(event)

    async def _begin(self, head: Any) -> None:
        if head is not None:
            await self._send(head)

    async def _go_on(self, event: Any) -> None:
        if not self._answer.takes_chunks:
            await self._send(event)
        elif event["body"]:
            await self._answer.send_chunk(event["body"])

    async def _end(self, head: Any, event: Any) -> None:
        if head is not None:
            await self._answer.respond(head["status"], head["headers"], event["body"])
        elif self._answer.takes_chunks:
            await self._answer.end_chunks(event["body"])
        else:
            await self._send(event)
