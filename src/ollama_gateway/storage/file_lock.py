"""A lock that a process holds on a name: who owns a store's file, and whether its owner lives.

The system takes it (flock) back however a process ends. The lock file stays for good: to remove it
would let two processes hold locks on two files of one name.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_NAP: Final = 0.005


@contextmanager
def locked(path: Path, *, is_shared: bool = False, patience: float = 0.0) -> Iterator[bool]:
    """Hold a lock for the length of the block; says whether it was got. Blocking; raises OSError.

    Args:
        path: the lock file, made where there is none.
        is_shared: whether others may hold it as well, shared.
        patience: seconds to wait for it.

    """
    how = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
