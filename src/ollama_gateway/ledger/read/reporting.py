"""Reports each fault once while the audit log is read, up to a limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

MAX_FAULTS: Final = 100
"""Every record may be damaged."""

ReportFault = Callable[[str], None]


class OncePerFault:
    """Passes a fault on the first time that it is reported.

    Args:
        report_fault: takes one line for each.

    """

    def __init__(self, report_fault: ReportFault) -> None:
        self._report_fault = report_fault
        self._reported: set[str] = set()

    def __call__(self, fault: str) -> None:
        """Report a fault, unless it was reported before."""
        if fault in self._reported or len(self._reported) > MAX_FAULTS:
            return
        self._reported.add(fault)
        is_too_many = len(self._reported) > MAX_FAULTS
        self._report_fault("further faults are not shown" if is_too_many else fault)
