"""A store's file: readable by its owner alone, and recognised by its inode, not by its name.

This module opens no file: closing a descriptor would drop the locks that SQLite holds on the same
file elsewhere in this process (POSIX).
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

Identity = tuple[int, int]
"""Device and inode: another file of the same name has another pair."""


class NotAFile(OSError):
    """The path leads to something that is no regular file."""


def make_private(path: Path) -> Identity:
    """Create the directory and the file if missing, readable by their owner alone.

    Raises OSError, NotAFile.
    """
    make_directory(path.parent)
    with suppress(FileExistsError):
        os.mknod(path, stat.S_IFREG | 0o600)
    return identity(path)


def make_directory(path: Path, mode: int = 0o700) -> None:
    """Create a directory if missing, whatever the umask; raises OSError.

    Missing parents get the mode 0755.
    """
    try:
        path.mkdir(mode=mode, exist_ok=True)
    except FileNotFoundError:
        make_directory(path.parent, 0o755)
        path.mkdir(mode=mode, exist_ok=True)


def identity(path: Path) -> Identity:
    """Return which file the path leads to now; raises OSError, NotAFile, FileNotFoundError."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise NotAFile(None, "not a file", str(path))
    return status.st_dev, status.st_ino
