"""Shared by the tests of the usage journal: a day, a counting runner, a reader of the file."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from ollama_gateway.limits.usage_file import read_file

T = TypeVar("T")
TODAY = 20_483
"""2026-01-30."""
DECEMBER, NOVEMBER = 20_423, 20_422
"""The first day that is kept then, and the one before."""
MONTH = 12 * 2026


def now() -> datetime:
    """Return a moment of that day."""
    return datetime(2026, 1, 30, 12, tzinfo=UTC)


class Counting:
    """A runner that runs in place and counts its calls; the first opens the file."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, work: Callable[[], T], /) -> T:
        """Run `work` here."""
        self.calls += 1
        return work()

    @property
    def writes(self) -> int:
        """The number of calls that wrote."""
        return self.calls - 1


def in_file(directory: Path, number: int = 0) -> tuple[dict[tuple[str, int], int], set[str]]:
    """Return a file's tokens by key and day, and the ids of its open requests.

    If no process owns the file, the open requests are charged.
    """
    content = read_file(directory / f"budgets-{number}.db")
    assert content is not None
    return dict(content.spent), set(content.open)
