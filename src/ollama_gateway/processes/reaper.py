"""Reaps orphaned children in a container, whose first process inherits them.

Commands of `podman exec` may leave children behind. Each ended child keeps a process id, of the few
that a container may have, until its new parent waits for it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

INIT: Final = 1
"""The process id of a container's first process."""


def reap(own: Collection[int] = ()) -> None:
    """Reap every child that has exited, without blocking, except `own`, which others wait for."""
    for child in _children():
        if child not in own:
            with contextlib.suppress(ChildProcessError):  # another thread was faster
                os.waitpid(child, os.WNOHANG)


def reap_as_init(own: Collection[int] = ()) -> None:
    """Reap if this is a container's first process; elsewhere orphans go to another process."""
    if os.getpid() == INIT:
        reap(own)


def _children() -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended and was reaped
            # `pid (name) state parent ...`: the name may hold anything, also `)`.
            parent = path.read_bytes().rpartition(b")")[2].split()[1]
            if int(parent) == os.getpid():
                yield int(path.parent.name)
