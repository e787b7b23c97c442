"""Logs: one line an event, readable on a terminal, JSON lines otherwise, always to stderr.

Written off the event loop's hot path by nothing more than being short: a line is formatted and
written once. Values are escaped by the renderers, so client text cannot forge a line. No prompt,
answer or key is ever handed to a logger; that is the callers' rule, kept by tests.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger whose lines carry `component=name`; cheap, to be made once a module."""
    return cast("FilteringBoundLogger", structlog.get_logger(component=name))


def configure(level: str = "info", style: str = "auto", stream: TextIO | None = None) -> None:
    """Set up logging for the process.

    Args:
        level: one of `LEVELS`.
        style: `"text"`, `"json"`, or `"auto"`: text when the stream is a terminal.
        stream: where lines go; stderr where not given.

    """
    out = stream or sys.stderr
    as_text = style == "text" or (style == "auto" and out.isatty())
    renderer: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=out.isatty())]
        if as_text
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, stream=out, format="%(levelname)s %(message)s")
