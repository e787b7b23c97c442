"""A page of a journal's records, read in one transaction."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

import attrs

MAX_INT64: Final = 2**63 - 1
"""The largest number in a record; more than its seq."""

T = TypeVar("T")
RawRecord = tuple[int, bytes]
"""A record's seq and its text."""


@attrs.frozen
class Page(Generic[T]):
    """Some of a journal's records after a seq, or their sums, in order."""

    items: list[T] = attrs.field(factory=list)
    upto: int = 0
    """The seq up to which nothing is left to read; 0 if nothing was there."""
    checkpoint: int = 0
    """The seq of the journal's checkpoint, read with them; 0 in PostgreSQL."""
    is_local: bool = False
    """Whether they are in a file of this machine."""
