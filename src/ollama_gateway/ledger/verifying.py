"""Whether journals are as they were written: their chains, followed from the anchor to the head."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import attrs

from ollama_gateway.ledger.chain import Anchor, Fault, Link, verify
from ollama_gateway.ledger.journal import JournalError, anchor_of, reading
from ollama_gateway.ledger.reading import is_unmade

STRIDE: Final = 20_000
"""Rows between two words of progress."""

# As bytes: somebody may have put anything there, and it is to be named, not to end the search.
_LINKS: Final = """SELECT seq, CAST(request_id AS BLOB), CAST(document AS BLOB), CAST(hash AS BLOB)
    FROM rows ORDER BY seq"""

Progress = Callable[[int], None]


@attrs.frozen
class Checked:
    """What was found in a journal."""

    journal: str
    """Its file name."""
    rows: int = 0
    """How many are there."""
    anchor: Anchor = attrs.field(factory=Anchor)
    """What came before the first."""
    head: Anchor = attrs.field(factory=Anchor)
    """The last row up to which the chain holds."""
    fault: Fault | None = None
    """Where it does not hold."""
    error: str | None = None
    """Why it cannot be read."""
    has_sought: bool = False
    """Whether the row with the hash that was sought is there."""

    @property
    def is_ok(self) -> bool:
        """Whether it was read and holds."""
        return self.fault is None and self.error is None

    @property
    def fails_at_once(self) -> bool:
        """Whether not even the first row holds, as with a wrong key."""
        return self.fault is not None and self.fault.seq == self.anchor.seq + 1


def check(
    path: Path, key: bytes, sought: bytes = b"", progress: Progress = lambda _: None
) -> Checked:
    """Follow the chain of a journal, in constant memory; a million rows take some ten seconds.

    Args:
        path: of the journal.
        key: of the chain; empty for none.
        sought: the hash of a row, noted elsewhere.
        progress: told how many rows were followed, from time to time.

    """
    try:
        return _check(path, key, sought, progress)
    except JournalError as error:
        return Checked(path.name, error=str(error))


def _check(path: Path, key: bytes, sought: bytes, progress: Progress) -> Checked:
    with reading(path) as connection:
        if is_unmade(connection):
            return Checked(path.name)
        anchor = anchor_of(connection)
        if not _is_anchor(anchor.seq, anchor.hash):
            raise JournalError(f"{path}: the anchor is not as this program writes it")
        head, fault = verify(anchor, _links(connection, progress), key)
        [(rows,)] = connection.execute("SELECT count(*) FROM rows")
        is_there = sought == anchor.hash or (bool(sought) and _has(connection, sought))
    return Checked(path.name, rows, anchor, head, fault, has_sought=is_there)


def _has(connection: Any, sought: bytes) -> bool:
    found = connection.execute("SELECT 1 FROM rows WHERE hash = ?", (sought,)).fetchone()
    return found is not None


def _is_anchor(seq: object, digest: object) -> bool:
    """Whether it is of the kinds that it should be, as SQLite takes any."""
    return isinstance(seq, int) and isinstance(digest, bytes)


def _links(connection: Any, progress: Progress) -> Iterator[Link]:
    for number, (seq, request_id, document, digest) in enumerate(connection.execute(_LINKS), 1):
        if number % STRIDE == 0:
            progress(number)
        yield Link(seq, request_id.decode(errors="replace"), _text(document), digest)


def _text(document: bytes) -> str:
    """A row's text; of what is no text, one that no row has, so that its hash cannot hold."""
    try:
        return document.decode()
    except UnicodeDecodeError:
        return ""
