"""How many requests of one key are served at once where no quota counts them.

What a model is and how long a prompt would be costs no tokens and has no limits, but its body has
to be read like any other. Each process counts for itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import attrs

from ollama_gateway.errors import LimitReached
from ollama_gateway.metrics import Metrics

REASON: Final = "reads_at_once"


@attrs.frozen
class AtOnce:
    """Places of each key."""

    metrics: Metrics
    limit: int = 8
    _held: Counter[str] = attrs.field(factory=Counter, init=False)

    @contextmanager
    def place(self, key_id: str) -> Iterator[None]:
        """Hold a place of a key for the length of the block; raises LimitReached."""
        if self._held[key_id] >= self.limit:
            self.metrics.limited(REASON)
            message = f"this key has {self.limit} such requests at once already, try again"
            raise LimitReached(message, reason=REASON)
        self._held[key_id] += 1
        try:
            yield
        finally:
            self._held[key_id] -= 1
            if not self._held[key_id]:
                del self._held[key_id]
