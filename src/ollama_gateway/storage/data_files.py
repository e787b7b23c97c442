"""The names of all files that the gateway keeps in `storage.data_dir`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

LOCAL_TOKEN_FILE: Final = "admin.token"  # noqa: S105 - a name
"""The admin token for commands on this machine; no backup holds it, each start makes another."""
DATA_FILES: Final = ("keys.db*", "journal-*", "budgets-*", "paused.*", f"{LOCAL_TOKEN_FILE}*")
"""Patterns of their names, locks included."""
INTERRUPTED: Final = "restore.unfinished"
"""A directory that is there while a restore replaces the files; nothing else may use them."""
_LOCKS: Final = (".lock", ".alive")
"""Suffixes of locks, which are never replaced: two processes could hold locks of one name then."""


def data_files(directory: Path) -> Iterator[Path]:
    """Yield the files of a data directory without its locks; raises OSError."""
    for path in sorted(directory.iterdir()):
        if path.suffix not in _LOCKS and any(path.match(pattern) for pattern in DATA_FILES):
            yield path
