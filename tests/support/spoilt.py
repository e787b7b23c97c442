"""What may be found in the place of a SQLite file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

GARBAGE = b"this is not a database, and long enough to be sure of it" * 100


def a_directory(path: Path) -> None:
    """Put a directory there."""
    path.mkdir()


def a_pipe(path: Path) -> None:
    """Put a pipe without a writer there."""
    os.mkfifo(path)


def garbage(path: Path) -> None:
    """Put something else there."""
    path.write_bytes(GARBAGE)


def executed(*statements: str) -> Callable[[Path], None]:
    """Return a function that runs statements in the file, which is made if there is none."""

    def execute(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)

    return execute
