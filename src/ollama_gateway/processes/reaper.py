"""Reaps orphaned children in a container, whose first process inherits them.

Commands of `podman exec` may leave children behind. Each ended child keeps a process id, of the few
that a container may have, until its new parent waits for it.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

INIT: Final = 1
"""The process id of a container's first process."""


def reap() -> None:
    """Reap every child that has exited, without blocking."""
    with contextlib.suppress(ChildProcessError):  # there are no children
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def reap_as_init() -> None:
    """Reap if this is a container's first process; elsewhere orphans go to another process."""
    if os.getpid() == INIT:
        reap()
