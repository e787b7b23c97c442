"""How many files the process may open, and how many clients there is room for because of that."""

from __future__ import annotations

import contextlib
import resource
from typing import Final

from ollama_gateway.log import get_logger

RESERVED_FILES: Final = 40
"""Descriptors for stores, listeners, polls and logs."""

log = get_logger("listener")


def raise_file_limit() -> None:
    """Let the process open as many files as it may: the usual soft limit is 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # a sandbox may refuse: the cap knows
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connections_that_fit(wanted: int) -> int:
    """How many clients there is room for: each may need a file of its own upstream."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    fitting = max(1, (soft - RESERVED_FILES) // 2)
    if fitting < wanted:
        log.warning("fewer connections than set: the limit of open files", connections=fitting)
    return min(wanted, fitting)
