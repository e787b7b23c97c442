"""Find what would keep `serve` from starting with valid settings, on this machine and as this user.

Each fault is a line that begins with the path of its setting.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ollama_gateway.printable import printable
from ollama_gateway.settings import Settings
from ollama_gateway.settings.addresses import ListenAddress

FILE: Final = "journal-0.db-wal"
"""A name as long as those in the directory."""


def faults_of_start(settings: Settings) -> Iterator[str]:
    """Yield a line for each address that cannot be bound, and for a directory without a use.

    An address in use is no fault: the gateway may be running.
    """
    for name in ("bind", "admin_bind"):
        if fault := _fault_of_address(getattr(settings.server, name)):
            yield f"server.{name}: {fault}"
    if fault := _fault_of_directory(settings.storage.data_dir):
        yield f"storage.data_dir: {printable(str(settings.storage.data_dir))}: {fault}"


def _fault_of_address(address: ListenAddress) -> str | None:
    from ollama_gateway.http.listener import AddressTaken, bind  # noqa: PLC0415 - hypercorn

    try:
        for sock in bind(address.host, address.port):
            sock.close()
    except AddressTaken as error:
        cause = error.__cause__
        is_taken = isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE
        return None if is_taken else str(error)
    return None


def _fault_of_directory(path: Path) -> str | None:
    try:
        existing = next(parent for parent in (path, *path.absolute().parents) if _exists(parent))
        (path / FILE).exists()  # raises if the path is too long
    except OSError as error:
        return (error.strerror or "cannot be used").lower()
    if not existing.is_dir():
        return "is not a directory" if existing == path else "is below a file"
    if not os.access(existing, os.W_OK | os.X_OK):
        return "this user may not write there"
    return None


def _exists(path: Path) -> bool:
    """Whether anything has this path, also a link to nothing; raises OSError."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    path.stat()
    return True
