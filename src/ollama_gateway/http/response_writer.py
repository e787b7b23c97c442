"""Write an application's response: ASGI's `send`, with a short path for ordinary answers.

Ordinary answers bypass hypercorn's stream and h11, which keep states and events for each part of
any answer. The head waits for the first event after it, which tells what kind of answer it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from ollama_gateway.http.protocol import Protocol


@attrs.define(eq=False)
class ResponseWriter:
    """Writes the response to one request."""

    _protocol: Protocol
    _send: Callable[[Any], Awaitable[None]]
    _head: Any = attrs.field(default=None, init=False)

    async def __call__(self, event: Any) -> None:
        """Send an ASGI event; None means that no more will come."""
        head, self._head = self._head, None
        if event is None:
            await self._send_all(head, None)
        elif event["type"] == "http.response.start":
            self._head = event
        elif event.get("more_body"):
            await self._send_part(head, event)
        else:
            await self._send_end(head, event)

    async def _send_part(self, head: Any, event: Any) -> None:
        if head is None or self._protocol.begin(head["status"], head["headers"]):
            head = None
        if self._protocol.is_answering:
            await self._protocol.send_chunk(event["body"])
        else:
            await self._send_all(head, event)

    async def _send_end(self, head: Any, event: Any) -> None:
        if self._protocol.is_answering:
            await self._protocol.end_chunks(event["body"])
        elif head is None or not await self._protocol.respond(
            head["status"], head["headers"], event["body"]
        ):
            await self._send_all(head, event)

    async def _send_all(self, head: Any, event: Any) -> None:
        if head is not None:
            await self._send(head)
        await self._send(event)
