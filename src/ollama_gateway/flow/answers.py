"""Whole answers that are held: how much memory all of them may take.

What is held of an answer is given back when it has been sent. Where there is no more room, an
answer that is known to be one is passed on at once, which holds nothing, and cannot be had from
another backend any more if it breaks; only what is not known yet is refused.
"""

from __future__ import annotations

from typing import Self

import attrs


@attrs.define
class AnswerBudget:
    """How much memory all answers may take together; `held` goes up and down by each `Held`."""

    total: int
    """Bytes, the setting `server.max_answers_total`."""
    held: int = attrs.field(default=0, init=False)


@attrs.define
class AnswerMemory:
    """What is held of one answer."""

    budget: AnswerBudget
    taken: int = 0

    def __enter__(self) -> Self:
        """Nothing is held yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        self.give_back()

    def take(self, size: int) -> bool:
        """Hold so many bytes more, in any case; whether there was room for them."""
        self.taken += size
        self.budget.held += size
        return self.budget.held <= self.budget.total

    def give_back(self) -> None:
        """Hold nothing; again is no error."""
        self.budget.held -= self.taken
        self.taken = 0
