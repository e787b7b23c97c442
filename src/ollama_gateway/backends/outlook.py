"""The outlook of a request that no backend can serve now: why, and for how long.

A client that gets a 503 reads whether its model is being loaded or the machines are busy, and when
to come back. The estimate is the least of the backends': the rest of a load, the requests in line,
or the time for which a full backend asked. Without a figure that was measured there is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

import attrs

from ollama_gateway.backends.evaluation import Evaluation
from ollama_gateway.errors import Unavailable
from ollama_gateway.reasons import AnyReason

LONGEST: Final = 300.0
"""Seconds of the longest estimate that is believed."""
UNKNOWN: Final = 5.0
"""Seconds after which a client may come back if there is no estimate."""
WORDS: Final = {
    "loading": "loading: the model is being loaded",
    "busy": "busy: no backend that has the model has room",
}


@attrs.frozen
class Outlook:
    """What stands between a request and a backend."""

    state: Literal["loading", "busy"]
    seconds: float | None
    """Until a backend can begin with it, about; None if nothing is known."""

    @classmethod
    def of(cls, evaluated: Sequence[Evaluation], now: float) -> Outlook:
        """Return the outlook of a request whose backends were evaluated."""
        is_loading = any(e.is_loading for e in evaluated) and not any(e.is_warm for e in evaluated)
        known = [seconds for e in evaluated if (seconds := _seconds(e, now)) is not None]
        least = min(known, default=None)
        return cls(
            "loading" if is_loading else "busy",
            None if least is None else min(max(least, 1.0), LONGEST),
        )

    def error(self, reason: AnyReason) -> Unavailable:
        """Return the error that says so."""
        when = "" if self.seconds is None else f" in about {math.ceil(self.seconds)} s"
        error = Unavailable(
            f"{WORDS[self.state]}, try again{when}",
            reason=reason,
            retry_after=self.seconds or UNKNOWN,
        )
        error.code = self.state
        return error


def _seconds(evaluation: Evaluation, now: float) -> float | None:
    """Return when a backend can begin with a request, in seconds from now; None if not known."""
    replica = evaluation.replica
    rest = evaluation.health.backoff_until - now if evaluation.is_backing_off else 0.0
    if evaluation.is_loading and replica.has_timed_load:
        return max(rest, replica.load_left(now))
    if replica.has_timed_requests and not evaluation.is_loading:
        return max(rest, evaluation.wait)
    return rest or None
