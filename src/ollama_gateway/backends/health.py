"""The health of one model on one backend, from the results of its attempts.

Which faults the breakers count:

| fault | counted |
|---|---|
| `UNREACHABLE`: no connection | always, for the backend |
| `BROKEN`: cut short, timed out, lost to its hedge | always, for the model on the backend |
| `ERROR`: an error answer | for the model on the backend, once another backend has served the \
request: a bad request gets a 500 from every backend, and opens no breaker |
| `FULL`: 429, 503 | never; the backend gets no attempts as long as it asks, at most a minute, or \
for a second |
| `LACKS_MODEL`: a listed model is missing | never; the model is unlisted until the next poll |
| `NONE`: of unclear cause, such as an answer without its final marker | never |
"""

from __future__ import annotations

import enum
from collections import deque
from typing import Final

import attrs

from ollama_gateway.backends.breaker import Breaker
from ollama_gateway.wire.load_options import LoadOptions

REMEMBERED_PACES: Final = 20
"""Answers whose pace is remembered."""
MIN_PACE_TOKENS: Final = 16
"""Tokens of the shortest answer whose pace is recorded."""
ASSUMED_PACE: Final = 1000.0
"""Tokens a second before any pace is known: faster than any model writes one answer."""
REMEMBERED_TIMES: Final = 50
"""First-chunk times kept for a model on a backend."""
DEFAULT_BACKOFF: Final = 1.0
"""Seconds for which a full backend gets no attempts, if it does not say how long."""
MAX_BACKOFF: Final = 60.0
"""The longest such time that a backend can ask for: it may have recovered since."""


class BackendFault(enum.Enum):
    """What a failed attempt shows about its backend."""

    UNREACHABLE = "unreachable"
    BROKEN = "broken"
    ERROR = "error"
    FULL = "full"
    LACKS_MODEL = "lacks_model"
    NONE = "none"


@attrs.define(eq=False)
class Health:
    """One model on one backend; times are seconds on the event loop's clock."""

    breaker: Breaker = attrs.field(factory=Breaker)
    is_failing: bool = False
    """Whether the last attempt with a clear result failed."""
    backoff_until: float = 0.0
    """End of the backoff after the backend said that it is full."""
    load_options: LoadOptions = ()
    """Load options of the last request; other options make Ollama load the model again."""
    first_chunks: deque[float] = attrs.field(factory=lambda: deque(maxlen=REMEMBERED_TIMES))
    """Seconds from the start of an attempt to its first good chunk; of streamed requests only."""

    @property
    def typical_first_chunk(self) -> float | None:
        """The median of the remembered first-chunk times; None if there are none."""
        times = sorted(self.first_chunks)
        return times[len(times) // 2] if times else None

    paces: deque[float] = attrs.field(factory=lambda: deque(maxlen=REMEMBERED_PACES))
    """Tokens a second of recent answers."""

    @property
    def pace(self) -> float:
        """The highest pace seen, in tokens a second."""
        return max(self.paces, default=ASSUMED_PACE)

    def wrote(self, tokens: int, seconds: float) -> None:
        """Record the pace of an answer."""
        if tokens >= MIN_PACE_TOKENS and seconds > 0:
            self.paces.append(tokens / seconds)

    def backoff(self, now: float, seconds: float | None) -> None:
        """Note that the backend is full; `seconds` is its `Retry-After`."""
        self.backoff_until = max(
            self.backoff_until, now + min(seconds or DEFAULT_BACKOFF, MAX_BACKOFF)
        )
