"""How one backend does with one model: what its attempts have shown, and what that is worth.

What counts against whom:

| fault | counts |
|---|---|
| `UNREACHABLE`: no connection | always, against the backend |
| `BROKEN`: cut, a deadline, overtaken by its hedge | always, against backend and model |
| `ERROR`: an answer that is an error | against both, once another backend has served the request: \
a bad request gets its 500 from every one, and opens nothing |
| `FULL`: 429, 503 | never; asked again when it says, at most a minute later, else after a second |
| `LACKS_MODEL`: lists what it says is not there | never; it leaves the list until the next poll |
| `NONE`: what may be anybody's fault, as an answer that ends without its marker | never |
"""

from __future__ import annotations

import enum
from collections import deque
from typing import Final

import attrs

from ollama_gateway.backends.breaker import Breaker
from ollama_gateway.wire.load_options import LoadOptions

REMEMBERED_PACES: Final = 20
"""Answers whose pace is kept of them."""
MIN_PACE_TOKENS: Final = 16
"""Tokens of an answer whose pace says something."""
ASSUMED_PACE: Final = 1000.0
"""Tokens a second until one was seen: more than any one answer of a model on one machine."""
REMEMBERED_TIMES: Final = 50
"""First-chunk times kept of a backend and model."""
DEFAULT_BACKOFF: Final = 1.0
"""Seconds that a full backend is left alone where it does not say for how long."""
MAX_BACKOFF: Final = 60.0
"""The same where it does, at most: it may have been mended since."""


class BackendFault(enum.Enum):
    """What a failed attempt says of its backend."""

    UNREACHABLE = "unreachable"
    BROKEN = "broken"
    ERROR = "error"
    FULL = "full"
    LACKS_MODEL = "lacks_model"
    NONE = "none"


@attrs.define(eq=False)
class Health:
    """One backend's way with one model; times are seconds on the event loop's clock."""

    breaker: Breaker = attrs.field(factory=Breaker)
    is_failing: bool = False
    """Whether the last attempt that showed anything failed."""
    backoff_until: float = 0.0
    """When it may be asked again, as it said that it is full."""
    load_options: LoadOptions = ()
    """What the model was last asked for with: others make Ollama load it again."""
    first_chunks: deque[float] = attrs.field(factory=lambda: deque(maxlen=REMEMBERED_TIMES))
    """Seconds from the start of an attempt to its first good chunk; streamed requests only."""

    @property
    def typical_first_chunk(self) -> float | None:
        """The median of the times that are remembered; None without any."""
        times = sorted(self.first_chunks)
        return times[len(times) // 2] if times else None

    paces: deque[float] = attrs.field(factory=lambda: deque(maxlen=REMEMBERED_PACES))
    """Tokens a second of answers that were reported."""

    @property
    def pace(self) -> float:
        """Tokens a second that it writes at most, as far as it has shown."""
        return max(self.paces, default=ASSUMED_PACE)

    def wrote(self, tokens: int, seconds: float) -> None:
        """It has written so many tokens of an answer in so many seconds."""
        if tokens >= MIN_PACE_TOKENS and seconds > 0:
            self.paces.append(tokens / seconds)

    def backoff(self, now: float, seconds: float | None) -> None:
        """It is full; `seconds` is what it said itself."""
        self.backoff_until = max(
            self.backoff_until, now + min(seconds or DEFAULT_BACKOFF, MAX_BACKOFF)
        )
