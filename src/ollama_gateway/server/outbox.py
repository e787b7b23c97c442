"""An application's way out: what ASGI calls `send`, with a short way for the chunks of a stream.

Heads, whole answers and ends go the way of hypercorn's stream, which has a state for each. Between
the head of a stream and its end nothing has: a chunk is framed and written, at half the cost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import attrs


class Chunks(Protocol):
    """Where chunks are written; see `protocol.Protocol`."""

    @property
    def takes_chunks(self) -> bool:
        """An answer in chunks has begun."""
        ...

    async def send_chunk(self, data: bytes) -> None:
        """Write a chunk."""
        ...


@attrs.frozen
class Outbox:
    """The way out of one request."""

    _chunks: Chunks
    _send: Callable[[Any], Awaitable[None]]

    async def __call__(self, event: Any) -> None:
        """Send an ASGI event; None where no more will come."""
        if event is not None and event.get("more_body") and self._chunks.takes_chunks:
            if event["body"]:
                await self._chunks.send_chunk(event["body"])
        else:
            await self._send(event)
