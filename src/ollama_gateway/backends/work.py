"""The work that a replica has before it: prompts to read, and answers to write.

An attempt reads its prompt until its first chunk, and then writes its answer. The reading is
measured in tokens; the writing is expected to take as long as it has taken before. Sums keep the
figures, so that a thousand attempts cost no more than one.

Times are seconds on the event loop's clock. Nothing here waits or reads a clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Final

import attrs

ASSUMED_ANSWER: Final = 5.0
"""Seconds of an answer, before any is known."""
REMEMBERED_ANSWERS: Final = 20


@attrs.define(eq=False)
class Work:
    """The attempts at one replica, by what they do now."""

    awaiting: int = attrs.field(default=0, init=False)
    """Requests that wait for room here, because it has their conversations."""
    _reading: int = attrs.field(default=0, init=False)
    _unread: int = attrs.field(default=0, init=False)
    """Tokens."""
    _reading_since: float = attrs.field(default=0.0, init=False)
    """Since when it has read the prompt that it reads now."""
    _writing: int = attrs.field(default=0, init=False)
    _begun: float = attrs.field(default=0.0, init=False)
    """The sum of the times at which the answers that it writes have begun."""
    _answers: deque[float] = attrs.field(
        factory=lambda: deque(maxlen=REMEMBERED_ANSWERS), init=False
    )
    answer_seconds: float = attrs.field(default=ASSUMED_ANSWER, init=False)

    def reads(self, tokens: int, now: float) -> None:
        """Note an attempt with so many tokens to read."""
        if not self._reading:
            self._reading_since = now
        self._reading += 1
        self._unread += tokens

    def has_read(self, tokens: int, now: float) -> None:
        """Note that it has read them, or need not do so any more."""
        self._reading -= 1
        self._unread -= tokens
        self._reading_since = now

    def writes(self, now: float) -> None:
        """Note that it begins to write an answer."""
        self._writing += 1
        self._begun += now

    def has_written(self, since: float, now: float) -> None:
        """Note the end of an answer that began at `since`."""
        self._writing -= 1
        self._begun = self._begun - since if self._writing else 0.0
        self._answers.append(now - since)
        self.answer_seconds = median(self._answers)

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Count a request that waits for room, for the length of the block."""
        self.awaiting += 1
        try:
            yield
        finally:
            self.awaiting -= 1

    def seconds(self, now: float, seconds_per_token: float) -> float:
        """Return how long all of it is expected to take, one after the other."""
        unread = self._unread * seconds_per_token
        if self._reading and not self._writing:
            unread -= min(now - self._reading_since, unread)
        written = self._writing * now - self._begun
        left = abs(self._writing * self.answer_seconds - written)
        return unread + (self._reading + self.awaiting) * self.answer_seconds + left
