"""A small file with a secret: of mode 0600, written and read by one user.

Everything here blocks.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Final

MODE: Final = 0o600
MAX_SECRET: Final = 4096
"""Bytes that are read."""


class NotPrivate(Exception):
    """The file may have been read or written by others; the message is one line without its text.

    It does not name the file.
    """


def read_private(path: Path, owners: Collection[int]) -> str:
    """Return the text of a file that belongs to one of these users, and that no other may read.

    Raises NotPrivate, OSError.
    """
    # A pipe would wait for its writer, and a link may lead to what another user has chosen.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotPrivate("is not a file")
        if status.st_uid not in owners:
            raise NotPrivate(f"belongs to another user (id {status.st_uid})")
        if (mode := stat.S_IMODE(status.st_mode)) != MODE:
            raise NotPrivate(f"has the mode {mode:04o}, not {MODE:04o}")
        return file.read(MAX_SECRET).decode("ascii", "replace").strip()


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step; its directory must exist. Raises OSError."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.new-")
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            os.fchmod(descriptor, MODE)
            file.write(f"{text}\n")
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
