"""A bound on the concurrent requests of one key that no quota counts.

`/api/show` and `count_tokens` cost no tokens and have no limits, but their bodies are read like any
other. Each process counts for itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from ollama_gateway.errors import LimitReached
from ollama_gateway.metrics import Metrics
from ollama_gateway.reasons import Reason


@attrs.frozen
class AtOnce:
    """Holds the places of each key."""

    metrics: Metrics
    limit: int = 8
    _held: Counter[str] = attrs.field(factory=Counter, init=False)

    @contextmanager
    def place(self, key_id: str) -> Iterator[None]:
        """Hold a place of a key for the length of the block; raises LimitReached."""
        if self._held[key_id] >= self.limit:
            self.metrics.limited(Reason.READS_AT_ONCE)
            message = f"this key already has {self.limit} such requests at once, try again"
            raise LimitReached(message, reason=Reason.READS_AT_ONCE)
        self._held[key_id] += 1
        try:
            yield
        finally:
            self._held[key_id] -= 1
            if not self._held[key_id]:
                del self._held[key_id]
