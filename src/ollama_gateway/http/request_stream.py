"""The stream of a request's events to the application: parts of its body, and the disconnect.

It serves as ASGI's `receive`, and can do two things more. An application can register a callback
for the moment its client leaves: a task that waits for the disconnect would cost more than key,
limits and audit record together. And the application can see whether an event is there already, so
that it needs no deadline to take it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import anyio

from ollama_gateway.http.chunks import Chunks

MAX_WAITING_BYTES: Final = 65536
"""Bytes that may wait for the application; beyond that the connection stops reading."""
MAX_JOINED_BYTES: Final = 4096
"""Bytes up to which parts are joined: a part of one byte takes sixty bytes of memory."""


class RequestStream:
    """The events of one request; one task puts them, one receives them.

    Args:
        chunks: decodes a chunked body when the application receives it.

    """

    def __init__(self, chunks: Chunks | None = None) -> None:
        self._chunks = chunks
        self._parts: deque[bytes | bytearray] = deque()
        self._waiting = 0
        """Bytes in the parts."""
        self._has_end = False
        """Whether the end of the body waits to be received."""
        self._is_closed = False
        self._is_wanted = True
        self._arrival: anyio.Event | None = None
        """Set when the waiting receiver can go on."""
        self._room_made: anyio.Event | None = None
        """Set when the task that puts can go on."""
        self._on_disconnect: Callable[[], None] | None = None

    @property
    def is_empty(self) -> bool:
        """True if receiving would have to wait."""
        return not (self._parts or self._has_end or self._chunks or self._is_closed)

    async def __call__(self) -> Any:
        """Return the next ASGI event; after the last, return the disconnect every time.

        Raises GatewayError if the body's chunks are broken.
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
        """Add bytes of the body, however many wait already."""
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
        """Mark the body as whole."""
        if self._is_wanted and not self._is_closed:
            self._has_end = True
            self._wake_receiver()

    async def wait_for_room(self) -> None:
        """Wait until there is room for more bytes; an unwanted body always has room."""
        while self._is_full and self._is_wanted and not self._is_closed:
            self._room_made = anyio.Event()
            await self._room_made.wait()

    @property
    def _is_full(self) -> bool:
        return (self._waiting if self._chunks is None else len(self._chunks)) >= MAX_WAITING_BYTES

    def on_disconnect(self, call: Callable[[], None]) -> None:
        """Call `call` when the client leaves, or now if it has left."""
        if self._is_closed:
            call()
        else:
            self._on_disconnect = call

    def drop(self) -> None:
        """Discard the body that waits and that still comes, so that it does not delay the end."""
        self._is_wanted, self._waiting, self._has_end = False, 0, False
        self._parts.clear()
        if self._chunks is not None:
            self._chunks.drop()
        self._make_room()

    def close(self) -> None:
        """Mark that the client has left, or that the answer is over; never waits."""
        if not self._is_closed:
            self._is_closed = True
            self._wake_receiver()
            self._make_room()
            # The callback holds the request, which holds this stream: the reference is dropped.
            call, self._on_disconnect = self._on_disconnect, None
            if call is not None:
                call()

    def _wake_receiver(self) -> None:
        if self._arrival is not None:
            self._arrival.set()

    def _make_room(self) -> None:
        if self._room_made is not None:
            self._room_made.set()
