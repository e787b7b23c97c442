"""The prefill of a replica: how long it reads a prompt, and how many conversations it keeps.

A model reads its prompt before it writes (prefill). It does not read again the head that its prefix
cache has from an earlier request. Ollama reports neither its speed nor the size of that cache, but
its answers show both.

*Speed*, in seconds a token that was not cached. The native dialect reports the duration of the
prefill. In others it is the time from sending to the first chunk; that holds queues and loads too,
so the least times count. One odd answer decides nothing.

*Capacity*, in conversations. A conversation comes back after `others` have used the same replica.
If it is found cached, the cache keeps more than `others`; if not, it keeps fewer. Nothing is
learned where no cached count is reported.

All figures come from backends and may be absurd. Nothing here waits or reads a clock.
"""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Final

import attrs

from ollama_gateway.wire.counting import BYTES_PER_TOKEN

ASSUMED_SECONDS_PER_TOKEN: Final = 0.001
"""Before any speed is known."""
SLOWEST: Final = 1.0
"""The most seconds a token that are believed."""
MIN_TOKENS: Final = 256
"""Tokens of the shortest prefill that is measured; with fewer, other costs prevail."""
REMEMBERED_PREFILLS: Final = 16
MOST_BYTES_PER_TOKEN: Final = 1000.0
"""Images have the most."""
MAX_CAPACITY: Final = 1024
"""Conversations of the largest cache that is believed."""
FOUND_SHARE: Final = 0.5
"""The share of the expected tokens from which a conversation counts as found in the cache."""
STEP: Final = 0.25
"""How far a figure moves to one that was seen: a single one is no proof."""


@attrs.define(eq=False)
class Prefill:
    """Learns from the prompts that one replica has read."""

    _capacity: float | None = attrs.field(default=None, init=False)
    _reported: deque[float] = attrs.field(
        factory=lambda: deque(maxlen=REMEMBERED_PREFILLS), init=False
    )
    _timed: deque[float] = attrs.field(
        factory=lambda: deque(maxlen=REMEMBERED_PREFILLS), init=False
    )
    seconds_per_token: float | None = attrs.field(default=None, init=False)
    """None before any is known."""
    _bytes_per_token: float = attrs.field(default=float(BYTES_PER_TOKEN), init=False)
    """Of a request's body, markup and images included."""

    def tokens(self, size: int) -> int:
        """Estimate the tokens of a prompt from the bytes of its request."""
        return int(size / self._bytes_per_token)

    def counted(self, size: int, tokens: int) -> None:
        """Note how many tokens the prompt in a request of `size` bytes had."""
        if tokens >= MIN_TOKENS:
            seen = min(max(size / tokens, 1.0), MOST_BYTES_PER_TOKEN)
            self._bytes_per_token += STEP * (seen - self._bytes_per_token)

    def reported(self, tokens: int, seconds: float) -> None:
        """Note the reported duration of a prefill of `tokens` that were not cached."""
        if _is_measurable(tokens, seconds):
            self._reported.append(seconds / tokens)
            self.seconds_per_token = median(self._reported)

    def timed(self, tokens: int, seconds: float) -> None:
        """Note the time from sending to the first chunk, where no duration is reported."""
        if self._reported or not _is_measurable(tokens, seconds):
            return
        self._timed.append(seconds / tokens)
        least = sorted(self._timed)
        self.seconds_per_token = least[min(1, len(least) - 1)]

    def seconds(self, tokens: float) -> float:
        """Return the seconds that it takes to read so many tokens."""
        known = self.seconds_per_token
        return tokens * (ASSUMED_SECONDS_PER_TOKEN if known is None else known)

    def known_seconds(self, tokens: float) -> float:
        """Do the same, with 0 before any speed is known."""
        return tokens * (self.seconds_per_token or 0.0)

    def capacity(self, assumed: int) -> int:
        """Return how many conversations the cache keeps; `assumed` before any count is known."""
        return assumed if self._capacity is None else max(1, round(self._capacity))

    def came_back(self, others: int, expected: int, cached: int, assumed: int) -> None:
        """Note a conversation that came back.

        Args:
            others: conversations that have used the replica since.
            expected: tokens that its last request left in the cache.
            cached: tokens that were found there now.
            assumed: the capacity before any count is known.

        """
        if expected < MIN_TOKENS:
            return
        known = float(assumed) if self._capacity is None else self._capacity
        if cached >= FOUND_SHARE * expected:
            self._capacity = min(max(known, others + 1), MAX_CAPACITY)
        elif others and others < known:
            self._capacity = max(1.0, known - STEP * (known - others))


def _is_measurable(tokens: int, seconds: float) -> bool:
    return tokens >= MIN_TOKENS and 0 < seconds <= SLOWEST * tokens
