"""How much may be asked twice: when a hedge is due, and what pays for hedges and retries.

Two purses, because there are two ways to make an outage worse. Hedges go to healthy backends that
are slow, and cost at most a share of the requests. Retries go to backends that are themselves
failing, and cost a tenth of the requests and ten a second. A failover to a healthy backend is
free: it does the work that the first one did not. A hedge beside an attempt on a failing backend
is a retry in truth, and is paid as one where the hedges' purse is empty; a hedge to a failing
backend always is.

The rule: nothing here waits; `now` is seconds on the event loop's clock.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final, Literal

import attrs

QUANTILE: Final = 0.95
"""`auto` hedges the slowest twentieth, as in "The Tail at Scale" (Dean and Barroso, 2013)."""
MAX_TIMES: Final = 200
"""First-chunk times of a model that are remembered."""
MIN_TIMES: Final = 20
"""Of them, before they say anything about one in twenty."""
DEFAULT_DELAY: Final = 2.0
"""Seconds of the hedge delay until then."""
MIN_DELAY: Final = 0.1
"""Seconds of the hedge delay at least: below it, what differs is chance."""
MAX_MODELS: Final = 1000
"""Models whose times are remembered; the one that was remembered first is forgotten first."""
SAVED_SHARES: Final = 50
"""Hedges that may be saved up, in shares: 50 x 5 % is 2.5 hedges."""

RETRY_RATIO: Final = 0.1
RETRIES_A_SECOND: Final = 10.0
RETRIES_SAVED: Final = 10.0
"""Retries that may be saved up: those of a second."""


@attrs.define(eq=False)
class Hedging:
    """When a streamed request may be asked of a second backend beside the first."""

    after: float | Literal["auto", "off"]
    """Seconds, the setting `race.hedge_after`."""
    ratio: float
    """Hedges as a share of requests, the setting `race.max_hedge_ratio`."""
    _bucket: float = attrs.field(default=1.0, init=False)
    _times: dict[str, deque[float]] = attrs.field(factory=dict, init=False)

    def count_request(self) -> None:
        """Each request pays its share in."""
        self._bucket = min(self._bucket + self.ratio, max(1.0, SAVED_SHARES * self.ratio))

    @property
    def is_on(self) -> bool:
        """Whether there are hedges at all."""
        return self.after != "off" and self.ratio > 0

    def pay(self) -> bool:
        """Take what one hedge costs; False where it is not there."""
        if self._bucket < 1 or not self.is_on:
            return False
        self._bucket -= 1
        return True

    def delay(self, model: str) -> float:
        """Seconds without a good chunk until a hedge is due; infinite where hedging is off."""
        if self.after == "off" or not self.is_on:
            return math.inf
        if self.after != "auto":
            return self.after
        times = self._times.get(model, ())
        if len(times) < MIN_TIMES:
            return DEFAULT_DELAY
        return max(sorted(times)[math.ceil(len(times) * QUANTILE) - 1], MIN_DELAY)

    def observe(self, model: str, seconds: float) -> None:
        """A streamed request had its first good chunk so long after its first attempt began."""
        if model not in self._times:
            if len(self._times) >= MAX_MODELS:
                del self._times[next(iter(self._times))]
            self._times[model] = deque(maxlen=MAX_TIMES)
        self._times[model].append(seconds)


@attrs.define(eq=False)
class RetryBudget:
    """What pays for asking a backend that is itself failing."""

    _bucket: float = attrs.field(default=RETRIES_SAVED, init=False)
    _counted_at: float | None = attrs.field(default=None, init=False)

    def count_request(self) -> None:
        """Each request pays its share in."""
        self._bucket = min(self._bucket + RETRY_RATIO, RETRIES_SAVED)

    def affordable_at(self, now: float) -> float:
        """When the next retry can be paid, by the passing of time alone."""
        self._count_time(now)
        return now + max(0.0, 1 - self._bucket) / RETRIES_A_SECOND

    def pay(self, now: float) -> bool:
        """Take what one retry costs; False where it is not there."""
        self._count_time(now)
        if self._bucket < 1:
            return False
        self._bucket -= 1
        return True

    def _count_time(self, now: float) -> None:
        since = now - (now if self._counted_at is None else self._counted_at)
        self._counted_at = now
        self._bucket = min(self._bucket + since * RETRIES_A_SECOND, RETRIES_SAVED)
