"""A circuit breaker: whether it is worth asking at all.

    closed ── FAILURES in a row ──► open ── the wait is over ──► half-open
      ▲                              ▲                              │ one attempt, the probe
      │                              └───── it fails: longer wait ──┤
      └──────────────────────────────────── it answers ─────────────┘

An answer closes it, and only a good end forgets: until then the next failure opens it again, for
longer. Else a backend that breaks every answer off would be closed again by each first chunk.

An attempt of before the opening that answers after all closes it too: it is proof. One that fails
then changes nothing, or a hundred streams that are cut together would add up to an endless wait.
The same goes for what begins while it is open, since nothing else was left to try. A probe that has
shown nothing gives way to the next one when it ends, or after the longest wait.

The rule: nothing here waits or reads a clock; whoever calls says what time it is.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Final, Literal

import attrs

FAILURES: Final = 3
"""Failures in a row that open a breaker."""
FIRST_WAIT: Final = 2.0
LONGEST_WAIT: Final = 60.0
"""Seconds from the opening to the probe: doubled each time, up to this."""
JITTER: Final = 0.25
"""By how much of itself a wait is lengthened at most, so that gateways do not probe together."""

State = Literal["closed", "open", "half-open"]


@attrs.define(eq=False)
class Breaker:
    """One breaker; times are seconds on the caller's clock."""

    failures: int = 0
    """In a row."""
    until: float | None = None
    """When the wait is over; None while it is closed."""
    reason: str | None = None
    """Of the last failure."""
    _wait: float = FIRST_WAIT
    """Of the next opening."""
    _probed_at: float = -math.inf
    """When the probe began that is still out."""
    _random: Callable[[], float] = random.random
    """From 0 to 1."""

    def state(self, now: float) -> State:
        """Where in the picture above it is."""
        if self.until is None:
            return "closed"
        return "open" if now < self.until else "half-open"

    def admits(self, now: float) -> bool:
        """Whether an attempt may begin; in half-open only as the probe, and only one."""
        if self.until is None:
            return True
        return now >= self.until and now >= self._probed_at + LONGEST_WAIT

    def begin(self, now: float) -> bool:
        """An attempt begins, whatever `admits` says; whether it is the probe."""
        is_probe = self.until is not None and self.admits(now)
        if is_probe:
            self._probed_at = now
        return is_probe

    def answered(self) -> bool:
        """An attempt had a good chunk; whether that closed the breaker."""
        if self.until is None:
            return False
        self.failures, self.until = FAILURES - 1, None
        self.drop_probe()
        return True

    def succeeded(self) -> None:
        """An attempt went well to its end."""
        self.failures, self._wait = 0, FIRST_WAIT

    def failed(self, now: float, reason: str, *, is_probe: bool) -> bool:
        """An attempt failed; whether that opened the breaker, anew where it was the probe."""
        self.failures += 1
        self.reason = reason
        if self.until is not None and not is_probe:
            return False
        if self.until is None and self.failures < FAILURES:
            return False
        self.until = now + self._wait * (1 + JITTER * self._random())
        self._wait = min(self._wait * 2, LONGEST_WAIT)
        self.drop_probe()
        return True

    def drop_probe(self) -> None:
        """The probe ended and has shown nothing."""
        self._probed_at = -math.inf
