"""A store's file: made for its owner alone, and known again by what it is, not by its name.

Nothing is opened here: closing a descriptor of the file would drop the locks that SQLite holds on
it elsewhere in this process (POSIX).
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

Identity = tuple[int, int]
"""Device and inode: another file under the same name has another."""


class NotAFile(OSError):
    """Something else is in the place of a file."""


def make_private(path: Path) -> Identity:
    """Make what is missing of directory and file, for nobody else to read.

    Raises OSError, NotAFile.
    """
    make_directory(path.parent)
    with suppress(FileExistsError):
        os.mknod(path, stat.S_IFREG | 0o600)
    return identity(path)


def make_directory(path: Path, mode: int = 0o700) -> None:
    """Make a directory where there is none, whatever the umask; raises OSError.

    Those above it that are missing let others pass, and nobody else write.
    """
    try:
        path.mkdir(mode=mode, exist_ok=True)
    except FileNotFoundError:
        make_directory(path.parent, 0o755)
        path.mkdir(mode=mode, exist_ok=True)


def identity(path: Path) -> Identity:
    """Which file the path leads to now; raises OSError, NotAFile, FileNotFoundError for none."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise NotAFile(None, "not a file", str(path))
    return status.st_dev, status.st_ino
