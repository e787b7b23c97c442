"""Logs: one line for each event. `log_output.py` says how the lines are written.

Callers never log a prompt, an answer or a key; tests check that.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Logger:
    """Logs the events of one module.

    structlog is imported with the first line, since that takes as long as most commands run, and
    few commands log anything.
    """

    def __init__(self, component: str, *, is_filtered: bool = True) -> None:
        self.component: Final = component
        self._is_filtered: Final = is_filtered

    def debug(self, event: str, **values: object) -> None:
        """Log an event for developers."""
        self._lines.debug(event, **values)

    def info(self, event: str, **values: object) -> None:
        """Log an event of normal operation."""
        self._lines.info(event, **values)

    def warning(self, event: str, **values: object) -> None:
        """Log an event that an operator should look at."""
        self._lines.warning(event, **values)

    def error(self, event: str, **values: object) -> None:
        """Log a failure."""
        self._lines.error(event, **values)

    def exception(self, event: str, **values: object) -> None:
        """Log a failure with the trace of the exception that is being handled."""
        self._lines.exception(event, **values)

    @cached_property
    def _lines(self) -> FilteringBoundLogger:
        import structlog  # noqa: PLC0415 - see the class

        if self._is_filtered:
            found = structlog.get_logger(component=self.component)
        else:
            every = structlog.make_filtering_bound_logger(LEVELS["debug"])
            found = structlog.wrap_logger(None, None, every, component=self.component)
        return cast("FilteringBoundLogger", found)


def get_logger(name: str) -> Logger:
    """Return a logger whose lines have `component=name`; make one for each module."""
    return Logger(name)


def get_unfiltered_logger(name: str) -> Logger:
    """Return a logger for lines that are written at every level, as proofs must be."""
    return Logger(name, is_filtered=False)
