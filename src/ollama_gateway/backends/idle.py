"""Connections that carried an answer to its end, kept a moment for the next request.

The one used last is taken first, so that under little load the others grow old and go. None is
taken that its backend has ended, or that says something unasked; none is kept for long, because a
machine that loses its power ends nothing, and a new connection tells within its deadline.

The rules: keeping and looking are plain functions, told what time it is; whoever takes streams out
closes them.
"""

from __future__ import annotations

import select
from collections import deque
from typing import Final

import attrs
from anyio.abc import ByteStream, SocketAttribute

KEPT: Final = 5.0
"""Seconds that a connection is kept."""
SHORT: Final = 0.05
"""Seconds within which an end is too rare to look for: to look takes as long as to parse a head."""


@attrs.define(eq=False)
class IdleConnections:
    """Up to `most` connections of one backend that nothing uses."""

    most: int
    _streams: deque[tuple[float, ByteStream]] = attrs.field(factory=deque, init=False)

    def __len__(self) -> int:
        return len(self._streams)

    def keep(self, stream: ByteStream, now: float) -> None:
        """Keep one; the caller closes what `expired` gives afterwards."""
        self._streams.append((now, stream))

    def take(self, now: float) -> tuple[ByteStream, bool] | None:
        """The one used last, and whether it was kept so long that it may have ended; None where
        there is none.
        """
        if not self._streams:
            return None
        since, stream = self._streams.pop()
        return stream, now - since > SHORT

    def expired(self, now: float) -> ByteStream | None:
        """One that was kept long enough, or is one too many; no longer kept. None: all are fine."""
        streams = self._streams
        if streams and (streams[0][0] + KEPT < now or len(streams) > self.most):
            return streams.popleft()[1]
        return None


def has_ended(stream: ByteStream) -> bool:
    """Whether something can be read that nobody asked for: the end, as a rule.

    A stream that is no socket tells nothing.
    """
    raw = stream.extra(SocketAttribute.raw_socket, None)  # noqa: S610 - not Django's
    if raw is None:
        return False
    look = select.poll()
    look.register(raw.fileno(), select.POLLIN)
    return bool(look.poll(0))
