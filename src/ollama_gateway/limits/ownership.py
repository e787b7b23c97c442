"""Which process owns which file of spending, and whether it lives: two locks beside each file.

`budgets-<n>.lock` is held, exclusive, by the process that owns `budgets-<n>.db`: nobody else writes
to it. `budgets-<n>.alive` is held as well once the owner has charged what its forerunner left open:
from then on, what is open in the file is its own. Whoever reads the file of another holds that lock
shared meanwhile, or learns that it cannot; so what it takes for the file of a dead process stays
that as long as it looks. The system takes locks (flock) back however a process ends; the lock files
stay for good.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ollama_gateway.storage.file_lock import locked

USAGE_PATTERN: Final = "budgets-*.db"
READERS_SECONDS: Final = 2.0
"""How long a starting process waits for those that read."""


@contextmanager
def owned(path: Path) -> Iterator[bool]:
    """Own a file for the length of the block; says whether nobody else does. Raises OSError."""
    with locked(path.with_suffix(".lock")) as is_ours:
        yield is_ours


@contextmanager
def alive(path: Path) -> Iterator[bool]:
    """Let readers know that the owner lives; says whether they let go in time. Raises OSError."""
    with locked(path.with_suffix(".alive"), patience=READERS_SECONDS) as is_known:
        yield is_known


@contextmanager
def inspected(path: Path) -> Iterator[bool]:
    """Whether the file's owner lives; if not, nobody begins to within the block. Raises OSError."""
    with locked(path.with_suffix(".alive"), is_shared=True) as is_dead:
        yield not is_dead
