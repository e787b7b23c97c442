"""The learned capacity: how many streams of a model a backend serves at once.

Ollama reports neither its slots nor its queue. But the streams show them: with one slot they come
one after the other, and with more than there is power for, each of them slows down. So each stream
is noted with its pace and with the number of streams that ran beside it. The capacity is the
largest number, up to `MAX_LEARNED`, that ran together at three quarters of the best pace or more.
It starts at 1, and falls again if streams come to slow each other.

A pace is the stream's chunks, as the gateway counts them, by the seconds from its first chunk to
its last. It needs no figures of the backend, which could be absurd, and exists in every dialect.
How many ran together is the mean over these seconds, from a sum that only the beginning and the end
of a stream change: a chunk costs nothing. If a client reads so slowly that its backend has finished
long before, that stream seems to run beside others; its own pace is then low, and the median over
the last streams decides.

Nothing here waits or reads a clock; `now` is in seconds on the event loop's clock.
"""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Final

import attrs

MAX_LEARNED: Final = 4
"""The largest learned capacity. Ollama's default is 1, and few machines are set up for more than 4;
too low a figure costs little, because it only orders candidates."""
LEAST_SHARE: Final = 0.75
"""The share of the best pace that a stream beside others must keep."""
MIN_CHUNKS: Final = 16
"""Chunks of the shortest stream that counts."""
REMEMBERED_STREAMS: Final = 5
"""Streams whose paces are remembered, for each number that ran together."""


@attrs.frozen
class StreamStart:
    """The moment of a stream's first chunk."""

    at: float
    stream_seconds: float
    """Of all streams together, until then."""


@attrs.define(eq=False)
class LearnedCapacity:
    """Learns from the streams of one model on one backend."""

    value: int = attrs.field(default=1, init=False)
    """From 1 to `MAX_LEARNED`."""
    _streams: int = attrs.field(default=0, init=False)
    """Streams between their first and their last chunk."""
    _stream_seconds: float = attrs.field(default=0.0, init=False)
    _counted_at: float = attrs.field(default=0.0, init=False)
    _paces: dict[int, deque[float]] = attrs.field(factory=dict, init=False)
    """Chunks a second of recent streams, by the number that ran together."""

    def begin(self, now: float) -> StreamStart:
        """Note a first chunk; pass the returned start to `end`."""
        self._count(now, 1)
        return StreamStart(now, self._stream_seconds)

    def end(self, start: StreamStart, now: float, chunks: int) -> None:
        """Note a last chunk; with 0 chunks, nothing is learned from the stream."""
        self._count(now, -1)
        seconds = now - start.at
        if chunks < MIN_CHUNKS or seconds <= 0:
            return
        together = round((self._stream_seconds - start.stream_seconds) / seconds)
        if not 1 <= together <= MAX_LEARNED:
            return
        paces = self._paces.setdefault(together, deque(maxlen=REMEMBERED_STREAMS))
        paces.append(chunks / seconds)
        self.value = self._learned()

    def _count(self, now: float, change: int) -> None:
        self._stream_seconds += self._streams * (now - self._counted_at)
        self._counted_at = now
        self._streams += change

    def _learned(self) -> int:
        typical = {together: median(paces) for together, paces in self._paces.items()}
        least = LEAST_SHARE * max(typical.values())
        return max((n for n, pace in typical.items() if pace >= least), default=1)
