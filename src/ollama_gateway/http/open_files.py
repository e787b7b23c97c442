"""Raise the limit on open files, and compute how many clients fit under it."""

from __future__ import annotations

import contextlib
import resource
from typing import Final

from ollama_gateway.log import get_logger

RESERVED_FILES: Final = 40
"""Descriptors reserved for stores, listeners, polls and logs."""

log = get_logger("listener")


def raise_file_limit() -> None:
    """Raise the soft limit on open files, usually 1,024, to the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # a sandbox may refuse
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connections_that_fit(wanted: int) -> int:
    """Return how many of the wanted connections fit; each may need one more file upstream."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    fitting = max(1, (soft - RESERVED_FILES) // 2)
    if fitting < wanted:
        log.warning("fewer connections than set: the limit of open files", connections=fitting)
    return min(wanted, fitting)
