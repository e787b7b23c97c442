"""When a hedge is due, and the two token buckets that pay for hedges and retries.

There are two buckets because there are two ways to make an outage worse. A hedge asks a second
backend because the first is slow; hedges are at most a share of the requests. A retry asks a
backend that is itself failing; retries are at most a tenth of the requests and ten a second. A
failover to a healthy backend is free: it does the work that the first backend did not do. A hedge
beside an attempt at a failing backend is really a retry, and the retry bucket pays for it if the
hedge bucket is empty; the retry bucket always pays for a hedge to a failing backend.

Nothing here waits; `now` is in seconds on the event loop's clock.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final, Literal

import attrs

QUANTILE: Final = 0.95
"""With `auto`, the slowest twentieth is hedged ("The Tail at Scale", Dean and Barroso, 2013)."""
MAX_TIMES: Final = 200
"""First-chunk times that are remembered for a model and prompts of like size."""
MIN_TIMES: Final = 20
"""First-chunk times of these before `auto` uses them."""
SHORT_BITS: Final = 12
"""Requests below 4 KiB are of like size; above, those within a factor of 4."""
DEFAULT_DELAY: Final = 2.0
"""Seconds; the hedge delay of `auto` until then."""
MIN_DELAY: Final = 0.1
"""Seconds; the least hedge delay of `auto`. Smaller differences are chance."""
MAX_TIMED: Final = 1000
"""Models and sizes whose times are remembered; the oldest is forgotten first."""
SAVED_SHARES: Final = 50
"""Requests whose shares may be saved: at a ratio of 5 %, 50 shares are 2.5 hedges."""

RETRY_RATIO: Final = 0.1
RETRIES_A_SECOND: Final = 10.0
RETRIES_SAVED: Final = 10.0
"""Retries that may be saved: those of one second."""


@attrs.define(eq=False)
class Hedging:
    """When a streamed request may go to a second backend beside the first, and what pays for it."""

    after: float | Literal["auto", "off"]
    """Seconds, the setting `race.hedge_after`."""
    ratio: float
    """Hedges as a share of requests, the setting `race.max_hedge_ratio`."""
    _bucket: float = attrs.field(default=1.0, init=False)
    _times: dict[tuple[str, int], deque[float]] = attrs.field(factory=dict, init=False)

    def count_request(self) -> None:
        """Add the share of one request."""
        self._bucket = min(self._bucket + self.ratio, max(1.0, SAVED_SHARES * self.ratio))

    @property
    def is_on(self) -> bool:
        """Whether hedging is enabled."""
        return self.after != "off" and self.ratio > 0

    def pay(self) -> bool:
        """Take the cost of one hedge; return False if the bucket lacks it."""
        if self._bucket < 1 or not self.is_on:
            return False
        self._bucket -= 1
        return True

    def delay(self, model: str, size: int = 0) -> float:
        """Return the seconds without a good chunk after which a hedge is due; infinite if off.

        A longer prompt takes longer to read, so only requests of like `size` in bytes are compared.
        """
        if self.after == "off" or not self.is_on:
            return math.inf
        if self.after != "auto":
            return self.after
        times = self._times.get((model, _size_class(size)), ())
        if len(times) < MIN_TIMES:
            return DEFAULT_DELAY
        return max(sorted(times)[math.ceil(len(times) * QUANTILE) - 1], MIN_DELAY)

    def observe(self, model: str, seconds: float, size: int = 0) -> None:
        """Note the seconds from the first attempt of a streamed request to its first good chunk."""
        alike = model, _size_class(size)
        if alike not in self._times:
            if len(self._times) >= MAX_TIMED:
                del self._times[next(iter(self._times))]
            self._times[alike] = deque(maxlen=MAX_TIMES)
        self._times[alike].append(seconds)


def _size_class(size: int) -> int:
    return max(0, size.bit_length() - SHORT_BITS + 1) // 2


@attrs.define(eq=False)
class RetryBudget:
    """The token bucket that pays for attempts at backends that are failing."""

    _bucket: float = attrs.field(default=RETRIES_SAVED, init=False)
    _counted_at: float | None = attrs.field(default=None, init=False)

    def count_request(self) -> None:
        """Add the share of one request."""
        self._bucket = min(self._bucket + RETRY_RATIO, RETRIES_SAVED)

    def affordable_at(self, now: float) -> float:
        """Return when time alone will have paid for the next retry."""
        self._count_time(now)
        return now + max(0.0, 1 - self._bucket) / RETRIES_A_SECOND

    def pay(self, now: float) -> bool:
        """Take the cost of one retry; return False if the bucket lacks it."""
        self._count_time(now)
        if self._bucket < 1:
            return False
        self._bucket -= 1
        return True

    def _count_time(self, now: float) -> None:
        since = now - (now if self._counted_at is None else self._counted_at)
        self._counted_at = now
        self._bucket = min(self._bucket + since * RETRIES_A_SECOND, RETRIES_SAVED)
