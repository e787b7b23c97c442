"""A request body that is passed on, not kept: one piece at a time, from the receiver to the taker.

The next piece is received when the one before was taken, so whoever sends it can be no faster than
whoever takes it, and a body of any size needs the memory of a piece. While the taker waits the body
must come as fast as any other (`bodies.py`); the time that the taker needs counts against nobody.
"""

from __future__ import annotations

import anyio
import attrs

from ollama_gateway.errors import RequestTimeout
from ollama_gateway.server.bodies import GRACE, SLOWEST


@attrs.define(eq=False)
class Pieces:
    """The hand-over of one body."""

    _piece: bytes = b""
    _is_over: bool = False
    _patience: float = GRACE
    """Seconds for which the next piece may keep the taker waiting."""
    _arrived: anyio.Event = attrs.field(factory=anyio.Event, init=False)
    _taken: anyio.Event = attrs.field(factory=anyio.Event, init=False)

    async def put(self, piece: bytes) -> None:
        """Wait until a piece was taken; at once where nobody takes any more."""
        if self._is_over or not piece:
            return
        self._piece, self._taken = piece, anyio.Event()
        self._arrived.set()
        await self._taken.wait()

    def end(self) -> None:
        """The body has ended, or nobody wants more of it."""
        self._is_over = True
        self._arrived.set()
        self._taken.set()

    async def take(self) -> bytes:
        """The next piece, b"" at the end. Raises RequestTimeout where it comes too slowly."""
        began = anyio.current_time()
        with anyio.move_on_after(self._patience) as waiting:
            await self._arrived.wait()
        if waiting.cancelled_caught:
            raise RequestTimeout(reason="slow_body")
        piece, self._piece = self._piece, b""
        if not self._is_over:
            self._arrived = anyio.Event()
        waited = anyio.current_time() - began
        self._patience = min(GRACE, self._patience - waited + len(piece) / SLOWEST)
        self._taken.set()
        return piece
