"""Bound request bodies in size and time: each body, those of one key, and all together.

A body must arrive at 1 KiB a second or faster, and may fall behind by ten seconds at most: one byte
a second is too slow, and so is silence. A body that is held until it is whole must be whole within
a minute plus the time that its bytes take at 64 KiB a second, since it holds memory and a place
among the key's requests all that time.

All bodies held at one time share `total` bytes. Those of one key may take a quarter of it, or one
whole body if that is more. A request over the bound is refused rather than queued, since waiting
bodies would fill the memory.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, Self

import attrs

from ollama_gateway.errors import LimitReached, Unavailable
from ollama_gateway.reasons import Reason

BODY_GRACE_SECONDS: Final = 10.0
"""Seconds by which a body may fall behind its slowest rate."""
MIN_BODY_RATE: Final = 1024
"""Bytes a second."""
WHOLE_BODY_SECONDS: Final = 60.0
"""Seconds in which a held body must be whole, besides the time for its bytes."""
MIN_WHOLE_BODY_RATE: Final = 64 * 1024
"""Bytes a second, for the time that depends on a held body's size."""
AT_HAND_SECONDS: Final = 0.25
"""Seconds in which a small body must be whole to count as at hand: many clients send it right
after the head."""


@attrs.define
class BodyBudget:
    """The memory that all bodies may take together; each `BodyShare` adds to `held`."""

    limit: int
    """Bytes of one body."""
    total: int
    """Bytes of all bodies."""
    containers: int = 100_000
    """JSON objects and arrays of one body."""
    held: int = attrs.field(default=0, init=False)
    held_by: Counter[str] = attrs.field(factory=Counter, init=False)
    """Bytes held by each key that holds any."""

    @property
    def of_one_key(self) -> int:
        """Return how many bytes all bodies of one key may take."""
        return max(self.limit, self.total // 4)


@attrs.define
class BodyShare:
    """One request's share of the budget, given back when the block is left."""

    budget: BodyBudget
    key_id: str = ""
    """The key whose body it is; set before any bytes are taken."""
    taken: int = 0

    def __enter__(self) -> Self:
        """Enter with nothing taken."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give everything back."""
        self.budget.held -= self.taken
        self.budget.held_by[self.key_id] -= self.taken
        if not self.budget.held_by[self.key_id]:
            del self.budget.held_by[self.key_id]

    def take(self, size: int) -> None:
        """Take `size` more bytes.

        Raises LimitReached if the key would hold too much, Unavailable if all keys together would.
        """
        of_key = self.budget.held_by[self.key_id]
        is_only_body = of_key == self.taken  # may exceed the bound: compressed, it counts twice
        if not is_only_body and of_key + size > self.budget.of_one_key:
            raise LimitReached(
                "this key has too many request bodies in memory at once, try again",
                reason=Reason.KEY_BODIES_FULL,
            )
        if self.budget.held + size > self.budget.total:
            raise Unavailable(
                "the gateway holds too many request bodies, try again",
                reason=Reason.BODIES_FULL,
                retry_after=1,
            )
        self.budget.held += size
        self.budget.held_by[self.key_id] += size
        self.taken += size
