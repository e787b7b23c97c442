"""What a connection has for an application: the pieces of a body, and that the client left.

It is what ASGI calls `receive`, and two things more. An application can have itself called at the
moment at which its client leaves: a task that waits for that costs a request more than its key, its
limits and its row together. And it can see whether something is there already, which is taken
without a deadline.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import anyio

from ollama_gateway.http.chunks import Chunks

MAX_WAITING_BYTES: Final = 65536
"""Bytes that may wait to be received; then the connection reads no more of them."""
MAX_JOINED_BYTES: Final = 4096
"""Bytes up to which pieces are put together: a piece of one byte takes sixty."""


class RequestStream:
    """The way in of one request; one task puts, one receives.

    Args:
        chunks: where the body comes in chunks, what takes them apart when they are received.

    """

    def __init__(self, chunks: Chunks | None = None) -> None:
        self._chunks = chunks
        self._parts: deque[bytes | bytearray] = deque()
        self._waiting = 0
        """Bytes in the pieces."""
        self._has_end = False
        """Whether the end of the body is still to be received."""
        self._is_closed = False
        self._is_wanted = True
        self._arrival: anyio.Event | None = None
        """What whoever receives waits on."""
        self._room_made: anyio.Event | None = None
        """What whoever puts waits on."""
        self._on_disconnect: Callable[[], None] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether receiving would have to wait."""
        return not (self._parts or self._has_end or self._chunks or self._is_closed)

    async def __call__(self) -> Any:
        """The next event; for ever that the client left, once that is all there is to say.

        Raises GatewayError where the body's chunks are broken.
        """
        while self.is_empty:
            self._arrival = anyio.Event()
            await self._arrival.wait()
        if self._chunks:
            data = await self._chunks.take()
            self._has_end = self._chunks.is_complete
        elif self._parts:
            data = bytes(self._parts.popleft())
            self._waiting -= len(data)
        elif self._has_end:
            data = b""
        else:
            return {"type": "http.disconnect"}
        self._make_room()
        is_last = self._has_end and not self._parts
        self._has_end = self._has_end and not is_last
        return {"type": "http.request", "body": data, "more_body": not is_last}

    def put(self, data: bytes) -> None:
        """Put in what came of the body, however much waits."""
        if not self._is_wanted or self._is_closed:
            return
        if self._chunks is not None:
            self._chunks.put(data)
        else:
            self._waiting += len(data)
            if self._parts and len(self._parts[-1]) + len(data) <= MAX_JOINED_BYTES:
                self._parts[-1] = bytearray(self._parts[-1]) + data
            else:
                self._parts.append(data)
        self._wake_receiver()

    def end(self) -> None:
        """The body is whole."""
        if self._is_wanted and not self._is_closed:
            self._has_end = True
            self._wake_receiver()

    async def wait_for_room(self) -> None:
        """Wait until there is room for more; where nobody wants any, there is."""
        while self._is_full and self._is_wanted and not self._is_closed:
            self._room_made = anyio.Event()
            await self._room_made.wait()

    @property
    def _is_full(self) -> bool:
        return (self._waiting if self._chunks is None else len(self._chunks)) >= MAX_WAITING_BYTES

    def on_disconnect(self, call: Callable[[], None]) -> None:
        """Call this when the client leaves, or now where it has left."""
        if self._is_closed:
            call()
        else:
            self._on_disconnect = call

    def drop(self) -> None:
        """Nobody wants what comes now: it is read and thrown away, or it would hold up the end."""
        self._is_wanted, self._waiting, self._has_end = False, 0, False
        self._parts.clear()
        if self._chunks is not None:
            self._chunks.drop()
        self._make_room()

    def close(self) -> None:
        """The client has left, or the answer is over; nothing waits for that."""
        if not self._is_closed:
            self._is_closed = True
            self._wake_receiver()
            self._make_room()
            # It holds the request, which holds this inbox: a circle waits for the collector.
            leaving, self._on_disconnect = self._on_disconnect, None
            if leaving is not None:
                leaving()

    def _wake_receiver(self) -> None:
        if self._arrival is not None:
            self._arrival.set()

    def _make_room(self) -> None:
        if self._room_made is not None:
            self._room_made.set()
