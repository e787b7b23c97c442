"""Ownership of usage files: two locks beside each file.

The owner of `budgets-<n>.db` holds `budgets-<n>.lock`, exclusive; no other process writes the file.
The owner also takes `budgets-<n>.alive` once it has charged the requests its predecessor left open:
from then on all open requests in the file are its own. A reader of the file holds that lock shared
while it reads, or learns that it cannot; so a file whose owner is dead stays so for the whole read.
The system releases the locks (flock) however a process ends; the lock files stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ollama_gateway.storage.file_lock import locked

USAGE_PATTERN: Final = "budgets-*.db"
READERS_SECONDS: Final = 2.0
"""Seconds that a starting process waits for readers."""


@contextmanager
def owned(path: Path) -> Iterator[bool]:
    """Own a file for the length of the block; yield whether that worked. Raises OSError."""
    with locked(path.with_suffix(".lock")) as is_ours:
        yield is_ours


@contextmanager
def alive(path: Path) -> Iterator[bool]:
    """Show readers that the owner lives; yield whether they let go in time. Raises OSError."""
    with locked(path.with_suffix(".alive"), patience=READERS_SECONDS) as is_known:
        yield is_known


@contextmanager
def inspected(path: Path) -> Iterator[bool]:
    """Yield whether the owner lives; if not, none appears within the block. Raises OSError."""
    with locked(path.with_suffix(".alive"), is_shared=True) as is_dead:
        yield not is_dead
