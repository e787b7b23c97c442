"""Request bodies: bounded each, bounded all together, bounded in time.

A body must come at 1 KiB a second or faster, with ten seconds to spare at any time: a slow line
is no fault, one byte a second and silence are. All bodies that are held at one time share `total`;
over it a request is refused rather than queued, since it is the waiting bodies that fill the
memory.
"""

from __future__ import annotations

from typing import Final, Self

import attrs

from ollama_gateway.errors import Unavailable

GRACE: Final = 10.0
"""Seconds that a body may be behind its slowest rate, or silent."""
SLOWEST: Final = 1024
"""Bytes a second."""


@attrs.define
class BodyBudget:
    """How much memory all bodies may take together; `held` goes up and down by each `Room`."""

    limit: int
    """Bytes of one body."""
    total: int
    """Bytes of all bodies."""
    held: int = attrs.field(default=0, init=False)


@attrs.define
class Room:
    """One request's share of the budget, given back when the block is left."""

    budget: BodyBudget
    taken: int = 0

    def __enter__(self) -> Self:
        """Nothing is taken yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        self.budget.held -= self.taken

    def take(self, size: int) -> None:
        """Take room for `size` more bytes; raises Unavailable when all together hold too much."""
        if self.budget.held + size > self.budget.total:
            raise Unavailable(
                "the gateway holds too many request bodies, try again",
                reason="bodies_full",
                retry_after=1,
            )
        self.budget.held += size
        self.taken += size
