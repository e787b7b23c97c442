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

ROOM: Final = 65536
"""Bytes that may wait to be received; then the connection reads no more of them."""


class Inbox:
    """The way in of one request; one task puts, one receives."""

    def __init__(self) -> None:
        self._events: deque[Any] = deque()
        self._waiting = 0
        self._is_closed = False
        self._is_wanted = True
        self._stirred: anyio.Event | None = None
        """What whoever receives waits on."""
        self._taken: anyio.Event | None = None
        """What whoever puts waits on."""
        self._leaving: Callable[[], None] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether receiving would have to wait."""
        return not self._events and not self._is_closed

    async def __call__(self) -> Any:
        """The next event; for ever that the client left, once that is all there is to say."""
        while not self._events:
            if self._is_closed:
                return {"type": "http.disconnect"}
            self._stirred = anyio.Event()
            await self._stirred.wait()
        event = self._events.popleft()
        self._waiting -= len(event["body"])
        self._make_room()
        return event

    def put(self, data: bytes) -> None:
        """Put in a piece of the body, however much waits."""
        self._put({"type": "http.request", "body": data, "more_body": True})

    def end(self) -> None:
        """The body is whole."""
        if self._events:
            self._events[-1]["more_body"] = False
        else:
            self._put({"type": "http.request", "body": b"", "more_body": False})

    async def room(self) -> None:
        """Wait until there is room for more; where nobody wants any, there is."""
        while self._waiting >= ROOM and self._is_wanted and not self._is_closed:
            self._taken = anyio.Event()
            await self._taken.wait()

    def on_leaving(self, call: Callable[[], None]) -> None:
        """Call this when the client leaves, or now where it has left."""
        if self._is_closed:
            call()
        else:
            self._leaving = call

    def drop(self) -> None:
        """Nobody wants what comes now: it is read and thrown away, or it would hold up the end."""
        self._is_wanted, self._waiting = False, 0
        self._events.clear()
        self._make_room()

    def close(self) -> None:
        """The client has left, or the answer is over; nothing waits for that."""
        if not self._is_closed:
            self._is_closed = True
            self._stir()
            self._make_room()
            # It holds the request, which holds this inbox: a circle waits for the collector.
            leaving, self._leaving = self._leaving, None
            if leaving is not None:
                leaving()

    def _put(self, event: Any) -> None:
        if self._is_wanted and not self._is_closed:
            self._events.append(event)
            self._waiting += len(event["body"])
            self._stir()

    def _stir(self) -> None:
        if self._stirred is not None:
            self._stirred.set()

    def _make_room(self) -> None:
        if self._taken is not None:
            self._taken.set()
