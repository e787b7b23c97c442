"""Connections that carried an answer to its end, kept a moment for the next request.

HTTP/1.1 has no word that ties an answer to its request: what comes first on a connection is the
answer to what was asked last. So bytes that a backend, or a proxy before it, says unasked behind an
answer would be read by whoever asks next. Four rules keep them from everybody else:

* A connection serves one key only: what is said unasked can at most reach the key whose answer was
  before it.
* It rests a moment first. What a confused peer says too much follows at once, and shows.
* None is used on which anything can be read, be it words or the end.
* Where one has said too much, none of that backend's is kept for minutes.

The one used last is taken first, so that under little load the others grow old and go. None is kept
for long, because a machine that loses its power ends nothing, and a new connection tells within its
deadline.

Keeping and looking are plain functions, told what time it is; whoever takes streams out closes
them.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from operator import itemgetter
from typing import Final

import attrs
from anyio.abc import ByteStream

from ollama_gateway.backends.plain import Wrapping

KEEP_SECONDS: Final = 5.0
"""Seconds that a connection is kept."""
SETTLE_SECONDS: Final = 0.1
"""Seconds of these in which it is not used."""
DISTRUST_SECONDS: Final = 600.0
"""Seconds in which no connection is kept to a backend that said too much."""

_since: Final = itemgetter(0)


@attrs.define(eq=False)
class IdleConnections:
    """Up to `most` connections of one backend that nothing uses."""

    most: int
    _streams: list[tuple[float, str, ByteStream]] = attrs.field(factory=list, init=False)
    """Since when, whom it served, and the connection; the longest kept first."""
    _distrusted_until: float = attrs.field(default=-math.inf, init=False)

    def __len__(self) -> int:
        return len(self._streams)

    def may_keep(self, now: float) -> bool:
        """Whether a connection could be used again at all."""
        return self.most > 0 and now >= self._distrusted_until

    def distrust(self, now: float) -> bool:
        """The backend has said too much; whether that is news. `expired` gives all that is kept."""
        is_news = now >= self._distrusted_until
        self._distrusted_until = now + DISTRUST_SECONDS
        return is_news

    def keep(self, stream: ByteStream, owner: str, now: float) -> None:
        """Keep one; the caller closes what `expired` gives afterwards."""
        self._streams.append((now, owner, stream))

    def take(self, owner: str, now: float) -> ByteStream | None:
        """The one used last of those that have served this owner and have rested; None: none."""
        if not self.may_keep(now):
            return None
        streams = self._streams
        for at in reversed(range(bisect_right(streams, now - SETTLE_SECONDS, key=_since))):
            if streams[at][1] == owner:
                return streams.pop(at)[2]
        return None

    def expired(self, now: float) -> ByteStream | None:
        """One that was kept long enough, or is one too many; no longer kept. None: all are fine."""
        streams = self._streams
        if not streams:
            return None
        since = streams[0][0]
        if since + KEEP_SECONDS < now or now < self._distrusted_until:
            return streams.pop(0)[2]
        if len(streams) > self.most:  # one that still rests is of less use than one that has
            return streams.pop(0 if since + SETTLE_SECONDS <= now else -1)[2]
        return None


def is_quiet(stream: ByteStream) -> bool:
    """Whether there is nothing to be read that nobody asked for; a stream in memory tells not."""
    return not isinstance(stream, Wrapping) or stream.is_quiet()
