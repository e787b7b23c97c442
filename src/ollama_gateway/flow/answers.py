"""The memory that whole answers may take together.

An answer gives its memory back once it was sent. When the budget is used up, an answer that is
already known to be good is passed on at once: that takes no memory, but no other backend can then
replace it if it breaks. An answer that is not yet known to be good is refused.
"""

from __future__ import annotations

from typing import Self

import attrs


@attrs.define
class AnswerBudget:
    """The memory of all answers together."""

    total: int
    """Bytes, the setting `server.max_answers_total`."""
    held: int = attrs.field(default=0, init=False)
    """Bytes taken now, by all `AnswerMemory`."""


@attrs.define
class AnswerMemory:
    """The part of the budget that one answer takes."""

    budget: AnswerBudget
    taken: int = 0

    def __enter__(self) -> Self:
        """Start with nothing taken."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give everything back."""
        self.give_back()

    def take(self, size: int) -> bool:
        """Take `size` more bytes in any case; return whether the budget had room for them."""
        self.taken += size
        self.budget.held += size
        return self.budget.held <= self.budget.total

    def give_back(self) -> None:
        """Give everything back; may be called again."""
        self.budget.held -= self.taken
        self.taken = 0
