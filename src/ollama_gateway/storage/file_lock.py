"""A lock on a file name: it shows which process owns a store's file, and whether that one lives.

The system releases the lock (flock) however the process ends. The lock file stays: removing it
would let two processes lock two files of one name.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_NAP: Final = 0.005


def opened(path: Path, how: int = os.O_RDWR) -> int:
    """Open a private file, created if missing, for the owner of its directory; raises OSError."""
    flags = how | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    if os.geteuid() == 0:  # a gateway that runs as another user must be able to open it
        owner = path.parent.stat()
        with suppress(OSError):  # refused by some network file systems, where root is another user
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


@contextmanager
def locked(path: Path, *, is_shared: bool = False, patience: float = 0.0) -> Iterator[bool]:
    """Hold a lock for the length of the block and yield whether it was acquired; blocking.

    Args:
        path: the lock file.
        is_shared: whether others may hold it too, shared.
        patience: seconds to wait for it.

    Raises OSError.

    """
    how = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
    descriptor = opened(path)
    try:
        deadline = time.monotonic() + patience
        while not (is_got := _take(descriptor, how)) and time.monotonic() < deadline:
            time.sleep(_NAP)
        yield is_got
    finally:
        os.close(descriptor)


def _take(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
