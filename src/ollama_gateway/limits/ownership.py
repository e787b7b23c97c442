"""Which process owns which file of spending, and whether it lives: two locks beside each file.

`budgets-<n>.lock` is held, exclusive, by the process that owns `budgets-<n>.db`: nobody else writes
to it. `budgets-<n>.alive` is held as well once the owner has charged what its forerunner left open:
from then on, what is open in the file is its own. Whoever reads the file of another holds that lock
shared meanwhile, or learns that it cannot; so what it takes for the file of a dead process stays
that as long as it looks. The system takes locks (flock) back however a process ends; the lock files
stay for good.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PATTERN: Final = "budgets-*.db"
READERS_SECONDS: Final = 2.0
"""How long a starting process waits for those that read."""
_NAP: Final = 0.005


@contextmanager
def owned(path: Path) -> Iterator[bool]:
    """Own a file for the length of the block; says whether nobody else does. Raises OSError."""
    with _locked(path.with_suffix(".lock"), fcntl.LOCK_EX) as is_ours:
        yield is_ours


@contextmanager
def alive(path: Path) -> Iterator[bool]:
    """Let readers know that the owner lives; says whether they let go in time. Raises OSError."""
    with _locked(path.with_suffix(".alive"), fcntl.LOCK_EX, READERS_SECONDS) as is_known:
        yield is_known


@contextmanager
def looked_at(path: Path) -> Iterator[bool]:
    """Whether the file's owner lives; if not, nobody begins to within the block. Raises OSError."""
    with _locked(path.with_suffix(".alive"), fcntl.LOCK_SH) as is_dead:
        yield not is_dead


@contextmanager
def _locked(path: Path, how: int, patience: float = 0.0) -> Iterator[bool]:
    """Whether the lock was got, at once or within `patience` seconds; given back at the end."""
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
