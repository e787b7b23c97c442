"""Runners of blocking work that take virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
import attrs

T = TypeVar("T")


@attrs.define(eq=False)
class Slow:
    """A runner that runs in place, and takes a time that the test may change."""

    before: float = 0.0
    """Seconds until the work is done."""
    after: float = 0.0
    """Seconds from then to the answer."""

    async def __call__(self, work: Callable[[], T], /) -> T:
        """Run the work here."""
        await anyio.sleep(self.before)
        result = work()
        await anyio.sleep(self.after)
        return result
