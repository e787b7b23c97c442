"""What cannot be read is told: each fault once, and not without end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

MAX_FAULTS: Final = 100
"""Faults; somebody may have spoilt every row."""

ReportFault = Callable[[str], None]


class OncePerFault:
    """Hands a fault on the first time that it is told.

    Args:
        tell: takes a line for each.

    """

    def __init__(self, report_fault: ReportFault) -> None:
        self._report_fault = report_fault
        self._reported: set[str] = set()

    def __call__(self, fault: str) -> None:
        """Tell a fault."""
        if fault in self._reported or len(self._reported) > MAX_FAULTS:
            return
        self._reported.add(fault)
        self._report_fault(
            fault if len(self._reported) <= MAX_FAULTS else "more that cannot be read is not told"
        )
