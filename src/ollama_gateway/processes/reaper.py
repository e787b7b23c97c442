"""The first process of a container inherits the children of whoever ends there.

What `podman exec` starts may leave some behind. Their remains take a number each, of the few that
a container may have, until their new parent asks how they ended.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

INIT: Final = 1
"""The number of a container's first process."""


def reap() -> None:
    """Ask how all have ended that have, whoever they were; does not wait for others."""
    with contextlib.suppress(ChildProcessError):  # there is none
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def reap_as_init() -> None:
    """The same in a container's first process; elsewhere children have parents of their own."""
    if os.getpid() == INIT:
        reap()
