"""How far the limits of keys are used, for those that are nearly exhausted; off by default.

Each admission and each refusal tells the use of a key's limits, so nothing is asked for a page. A
figure counts until its limit is free again, or for a minute if it may be free at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, Protocol

import attrs

NEAR: Final = 0.8
"""The used part from which a limit is shown."""
LEAST_SECONDS: Final = 60.0
"""Seconds for which a figure counts at least."""
CAPACITY: Final = 10_000
"""Figures kept; the oldest one is dropped first."""


class LimitUse(Protocol):
    """The use of one limit; see `limits/quota.py`."""

    @property
    def limit(self) -> int:
        """The limit."""
        ...

    @property
    def used(self) -> int:
        """The used part of it."""
        ...

    @property
    def reset(self) -> float:
        """Seconds until all of it is free again."""
        ...


@attrs.define(eq=False)
class NearLimits:
    """The used parts of limits; times are seconds on the caller's clock."""

    is_on: bool = False
    _found: OrderedDict[tuple[str, str], tuple[float, float]] = attrs.field(
        factory=OrderedDict, init=False
    )
    """By key id and limit: the used part, and the time until which it counts."""

    def become(self, *, is_on: bool) -> None:
        """Keep figures from now on, or forget them."""
        self.is_on = is_on
        if not is_on:
            self._found.clear()

    def note(self, key_id: str, uses: Iterable[tuple[str, LimitUse]], now: float) -> None:
        """Note the use of a key's limits."""
        for name, use in uses:
            self._found.pop((key_id, name), None)
            part = use.used / use.limit
            if part >= NEAR:
                self._found[key_id, name] = part, now + max(use.reset, LEAST_SECONDS)
        while len(self._found) > CAPACITY:
            self._found.popitem(last=False)

    def parts(self, now: float) -> list[tuple[float, str, str]]:
        """Return used part, key id and limit of each, the highest part first."""
        for name in [name for name, (_, until) in self._found.items() if until <= now]:
            del self._found[name]
        return sorted(((part, *name) for name, (part, _) in self._found.items()), reverse=True)
