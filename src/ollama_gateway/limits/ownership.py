"""Which process owns which file of spending: `budgets-<n>.db`, one a process, side by side.

A process takes the lowest n that nobody owns. What makes it the owner is an exclusive flock on
`budgets-<n>.lock`, which the system takes back however the process ends; lock files stay for good.
Whoever only reads holds a shared lock meanwhile: readers do not take each other for owners, and a
process that starts can tell them from one and wait.

The rule: no descriptor of a database is opened here, since closing it would drop the locks that
SQLite holds on it elsewhere in this process (POSIX).
"""

from __future__ import annotations

import fcntl
import itertools
import os
import stat
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

PATTERN: Final = "budgets-*.db"
READERS_SECONDS: Final = 2.0
"""How long a starting process waits for those that only read; then it takes the next number."""
_NAP: Final = 0.005

Inode = tuple[int, int]
"""Device and inode: another file under the same name has another."""


class NoFile(OSError):
    """Something else is in the place of a file."""


@contextmanager
def owned(directory: Path) -> Iterator[Path]:
    """The path of a database that is this process's for the length of the block.

    Makes the directory and the file where there is none, for nobody else to read. Raises OSError.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in itertools.count():
        path = directory / f"budgets-{number}.db"
        with closing(_Lock(path)) as lock:
            if lock.become_owner():
                with suppress(FileExistsError):
                    os.mknod(path, stat.S_IFREG | 0o600)
                yield path
                return


@contextmanager
def looked_at(path: Path) -> Iterator[bool]:
    """Whether a process owns the file; where none does, none begins to within the block.

    A process that would have become the owner waits for the end of the block, or takes another
    file. Raises OSError.
    """
    with closing(_Lock(path)) as lock:
        yield not lock.take(fcntl.LOCK_SH)


def inode(path: Path) -> Inode:
    """Which file the path leads to now; raises OSError, NoFile where it is none."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise NoFile(None, "not a file", str(path))
    return status.st_dev, status.st_ino


class _Lock:
    """The lock of a database, its file made where there is none; `close` gives it back."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(
            path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )

    def take(self, how: int) -> bool:
        """Take it shared or exclusive, without a wait; says whether that worked."""
        try:
            fcntl.flock(self._descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def become_owner(self) -> bool:
        """Take it exclusive, unless a process owns it; those that only read are waited for."""
        deadline = time.monotonic() + READERS_SECONDS
        while not self.take(fcntl.LOCK_EX):
            is_owned = not self.take(fcntl.LOCK_SH)
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            if is_owned or time.monotonic() > deadline:
                return False
            time.sleep(_NAP)
        return True

    def close(self) -> None:
        os.close(self._descriptor)
