"""Idle connections: each carried an answer to its end, and is kept briefly for the next request.

HTTP/1.1 does not tie an answer to its request: the first bytes on a connection count as the answer
to the last request. If a backend, or a proxy before it, sends extra bytes after an answer, the next
request on that connection would read them. Four rules keep them from other clients:

* A connection serves one key only, so extra bytes can reach only the key of the answer before them.
* A connection is not used again at once. A confused peer sends extra bytes immediately, so that
  they show.
* A connection that has anything to read, bytes or its end, is not used again.
* When a backend has sent extra bytes, none of its connections is kept for minutes.

The connection used last is taken first, so that under little load the others expire. None is kept
for long: a machine that loses power closes nothing, and only a new connection shows within its
deadline that the machine is gone.

All functions are plain and are given the time; the caller closes the streams that it takes out.
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
"""Seconds for which a connection is kept."""
SETTLE_SECONDS: Final = 0.1
"""The first of these seconds, in which it is not used yet."""
DISTRUST_SECONDS: Final = 600.0
"""Seconds in which no connection is kept to a backend that has sent extra bytes."""

_since: Final = itemgetter(0)


@attrs.define(eq=False)
class IdleConnections:
    """Up to `most` unused connections of one backend."""

    most: int
    _streams: list[tuple[float, str, ByteStream]] = attrs.field(factory=list, init=False)
    """Start of its idleness, the key it served, and the connection; the oldest first."""
    _distrusted_until: float = attrs.field(default=-math.inf, init=False)

    def __len__(self) -> int:
        return len(self._streams)

    def may_keep(self, now: float) -> bool:
        """Return True if connections to this backend may be kept now."""
        return self.most > 0 and now >= self._distrusted_until

    def distrust(self, now: float) -> bool:
        """Note extra bytes, for which `expired` yields all; return whether trust ends only now."""
        is_news = now >= self._distrusted_until
        self._distrusted_until = now + DISTRUST_SECONDS
        return is_news

    def end(self) -> None:
        """Keep no connection any more; `expired` yields all."""
        self.most, self._distrusted_until = 0, math.inf

    def keep(self, stream: ByteStream, owner: str, now: float) -> None:
        """Keep a connection; the caller then closes those that `expired` yields."""
        self._streams.append((now, owner, stream))

    def take(self, owner: str, now: float) -> ByteStream | None:
        """Take out the usable connection that served this owner last, or return None."""
        if not self.may_keep(now):
            return None
        streams = self._streams
        for at in reversed(range(bisect_right(streams, now - SETTLE_SECONDS, key=_since))):
            if streams[at][1] == owner:
                return streams.pop(at)[2]
        return None

    def expired(self, now: float) -> ByteStream | None:
        """Take out a connection that is too old or one too many, or return None."""
        streams = self._streams
        if not streams:
            return None
        since = streams[0][0]
        if since + KEEP_SECONDS < now or now < self._distrusted_until:
            return streams.pop(0)[2]
        if len(streams) > self.most:  # one that may be used already is worth more
            return streams.pop(0 if since + SETTLE_SECONDS <= now else -1)[2]
        return None


def is_quiet(stream: ByteStream) -> bool:
    """Return True if the stream has nothing to read; a stream in memory always counts as quiet."""
    return not isinstance(stream, Wrapping) or stream.is_quiet()
