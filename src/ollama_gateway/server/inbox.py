"""What a connection has for an application: the pieces of a body, and that the client left.

It is what ASGI calls `receive`, and one thing more: an application can have itself called at the
moment at which its client leaves. A task that waits for that costs a request more than its key, its
limits and its row together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import anyio

ROOM: Final = 65536
"""Bytes that may wait to be received; then whoever puts in more waits."""


class Inbox:
    """The way in of one request; one task puts, one receives."""

    def __init__(self) -> None:
        self._events: deque[Any] = deque()
        self._waiting = 0
        self._is_closed = False
        self._is_wanted = True
        self._stirred = anyio.Event()
        self._leaving: Callable[[], None] | None = None

    async def __call__(self) -> Any:
        """The next event; for ever that the client left, once that is all there is to say."""
        while not self._events:
            if self._is_closed:
                return {"type": "http.disconnect"}
            await self._stirred.wait()
        event = self._events.popleft()
        self._waiting -= len(event["body"])
        self._stir()
        return event

    async def put(self, event: Any) -> None:
        """Say the next thing: a piece of the body waits for room, an end for nobody."""
        if event["type"] == "http.disconnect":
            self.close()
            return
        while self._waiting >= ROOM and self._is_wanted and not self._is_closed:
            await self._stirred.wait()
        if self._is_wanted:
            self._events.append(event)
            self._waiting += len(event["body"])
            self._stir()

    def on_leaving(self, call: Callable[[], None]) -> None:
        """Call this when the client leaves, or now where it has left."""
        self._leaving = call
        if self._is_closed:
            call()

    def drop(self) -> None:
        """Nobody wants what comes now: it is read and thrown away, or it would hold up the end."""
        self._is_wanted, self._waiting = False, 0
        self._events.clear()
        self._stir()

    def close(self) -> None:
        """The client has left, or the answer is over; nothing waits for that."""
        if not self._is_closed:
            self._is_closed = True
            self._stir()
            if self._leaving is not None:
                self._leaving()

    def _stir(self) -> None:
        # Replaced here and by no waiter: one that woke late would take away what another waits on.
        stirred, self._stirred = self._stirred, anyio.Event()
        stirred.set()
