"""A circuit breaker: stops attempts at a backend or model that keeps failing.

    closed ── FAILURES in a row ──► open ── the wait is over ──► half-open
      ▲                              ▲                              │ one attempt, the probe
      │                              └───── it fails: longer wait ──┤
      └──────────────────────────────────── it answers ─────────────┘

The first chunk of an answer closes the breaker, but only a complete answer resets its counts: until
then the next failure opens it again, for longer. Otherwise a backend that cuts every answer short
would reset the wait with each first chunk.

While the breaker is open, attempts from before the opening are still running, and new ones begin as
a last resort. If one of them answers, the breaker closes; if one fails, nothing changes, or a
hundred streams that are cut together would add up to an endless wait. A probe without a result
gives way to the next probe when it ends, or after the longest wait.

Nothing here waits or reads a clock; the caller passes the time.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Final, Literal

import attrs

from ollama_gateway.reasons import AnyReason

FAILURES: Final = 3
"""Failures in a row that open a breaker."""
FIRST_WAIT: Final = 2.0
LONGEST_WAIT: Final = 60.0
"""Seconds from the opening to the probe: doubled each time, up to this."""
JITTER: Final = 0.25
"""The largest random share added to a wait, so that gateways do not probe together."""

State = Literal["closed", "open", "half-open"]


@attrs.define(eq=False)
class Breaker:
    """One breaker; times are seconds on the caller's clock."""

    failures: int = 0
    """In a row."""
    until: float | None = None
    """End of the wait; None while the breaker is closed."""
    reason: AnyReason | None = None
    """Of the last failure."""
    _wait: float = FIRST_WAIT
    """Seconds of the next wait."""
    _probed_at: float = -math.inf
    """Start of the probe that is running."""
    _random: Callable[[], float] = random.random
    """From 0 to 1."""

    def state(self, now: float) -> State:
        """Return the state."""
        if self.until is None:
            return "closed"
        return "open" if now < self.until else "half-open"

    def admits(self, now: float) -> bool:
        """Return True if an attempt may begin; half-open admits one only, the probe."""
        if self.until is None:
            return True
        return now >= self.until and now >= self._probed_at + LONGEST_WAIT

    def begin(self, now: float) -> bool:
        """Note that an attempt begins, admitted or not; return whether it is the probe."""
        is_probe = self.until is not None and self.admits(now)
        if is_probe:
            self._probed_at = now
        return is_probe

    def answered(self) -> bool:
        """Note a good chunk; return whether it closed the breaker."""
        if self.until is None:
            return False
        self.failures, self.until = FAILURES - 1, None
        self.drop_probe()
        return True

    def succeeded(self) -> None:
        """Note a complete answer."""
        self.failures, self._wait = 0, FIRST_WAIT

    def failed(self, now: float, reason: AnyReason, *, is_probe: bool) -> bool:
        """Note a failure; return whether it opened the breaker. A failed probe opens it again."""
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
        """Note that the probe ended without a result."""
        self._probed_at = -math.inf
