"""What cannot be read is told: each fault once, and not without end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

MOST_TOLD: Final = 100
"""Faults; somebody may have spoilt every row."""

Complain = Callable[[str], None]


class Once:
    """Hands a fault on the first time that it is told.

    Args:
        tell: takes a line for each.

    """

    def __init__(self, tell: Complain) -> None:
        self._tell = tell
        self._told: set[str] = set()

    def __call__(self, fault: str) -> None:
        """Tell a fault."""
        if fault in self._told or len(self._told) > MOST_TOLD:
            return
        self._told.add(fault)
        self._tell(
            fault if len(self._told) <= MOST_TOLD else "more that cannot be read is not told"
        )
