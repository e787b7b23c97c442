"""Request bodies: bounded each, bounded for a key, bounded all together, bounded in time.

A body must come at 1 KiB a second or faster, with ten seconds to spare at any time: one byte a
second and silence are faults. One that is held until it is whole must be so in a minute and the
time that its bytes take at 64 KiB a second: who holds memory and a place may not do so for hours.

All bodies that are held at one time share `total`, and those of one key may take a quarter of it,
or one whole body where that is more; over it a request is refused rather than queued, since it is
the waiting bodies that fill the memory.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, Self

import attrs

from ollama_gateway.errors import LimitReached, Unavailable

BODY_GRACE_SECONDS: Final = 10.0
"""Seconds that a body may be behind its slowest rate, or silent."""
MIN_BODY_RATE: Final = 1024
"""Bytes a second."""
WHOLE_BODY_SECONDS: Final = 60.0
"""Seconds for a body that is held to be whole, and more for its bytes."""
MIN_WHOLE_BODY_RATE: Final = 64 * 1024
"""Bytes a second, of those."""
AT_HAND_SECONDS: Final = 0.25
"""Seconds in which it has to be there then: many clients send it behind the head."""


@attrs.define
class BodyBudget:
    """How much memory all bodies may take together; `held` goes up and down by each `Room`."""

    limit: int
    """Bytes of one body."""
    total: int
    """Bytes of all bodies."""
    containers: int = 100_000
    """JSON objects and arrays of one body."""
    held: int = attrs.field(default=0, init=False)
    held_by: Counter[str] = attrs.field(factory=Counter, init=False)
    """The same of each key that holds any."""

    @property
    def of_one_key(self) -> int:
        """Bytes of all bodies of one key."""
        return max(self.limit, self.total // 4)


@attrs.define
class BodyShare:
    """One request's share of the budget, given back when the block is left."""

    budget: BodyBudget
    key_id: str = ""
    """Whose body it is; set before any of it is taken."""
    taken: int = 0

    def __enter__(self) -> Self:
        """Nothing is taken yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        self.budget.held -= self.taken
        self.budget.held_by[self.key_id] -= self.taken
        if not self.budget.held_by[self.key_id]:
            del self.budget.held_by[self.key_id]

    def take(self, size: int) -> None:
        """Take room for `size` more bytes.

        Raises LimitReached when the key holds too much, Unavailable when all together do.
        """
        of_key = self.budget.held_by[self.key_id]
        is_alone = (
            of_key == self.taken
        )  # a body that is compressed may take more than one that is not
        if not is_alone and of_key + size > self.budget.of_one_key:
            raise LimitReached(
                "this key has too many request bodies here at once, try again",
                reason="key_bodies_full",
            )
        if self.budget.held + size > self.budget.total:
            raise Unavailable(
                "the gateway holds too many request bodies, try again",
                reason="bodies_full",
                retry_after=1,
            )
        self.budget.held += size
        self.budget.held_by[self.key_id] += size
        self.taken += size
