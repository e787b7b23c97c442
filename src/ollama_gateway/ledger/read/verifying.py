"""Whether journals are as they were written: their chains, followed from the anchor to the head."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import attrs

from ollama_gateway.ledger.chain import ChainFault, Checkpoint, Link, verify
from ollama_gateway.ledger.journal import JournalError, checkpoint_of, reading
from ollama_gateway.ledger.read.journals import is_unmade
from ollama_gateway.ledger.read.records import MAX_INT64

STRIDE: Final = 20_000
"""Rows between two words of progress."""

# As bytes: somebody may have put anything there, and it is to be named, not to end the search.
_LINKS: Final = """SELECT seq, CAST(request_id AS BLOB), CAST(document AS BLOB), CAST(hash AS BLOB)
    FROM rows WHERE seq > ? ORDER BY seq LIMIT ?"""
_ALL: Final = (-MAX_INT64, -1)
_IDENTITY: Final = "SELECT CAST(identity AS BLOB) FROM chain"

Progress = Callable[[int], None]


@attrs.frozen
class Checked:
    """What was found in a journal."""

    journal: str
    """Its file name; its identity where it is in PostgreSQL alone."""
    identity: str = ""
    """Which it is, wherever its rows are."""
    records: int = 0
    """How many are there."""
    checkpoint: Checkpoint = attrs.field(factory=Checkpoint)
    """What came before the first."""
    head: Checkpoint = attrs.field(factory=Checkpoint)
    """The last row up to which the chain holds."""
    dropped: int = 0
    """Rows before the anchor, dropped for their age: of those nothing can be said."""
    fault: ChainFault | None = None
    """Where it does not hold."""
    error: str | None = None
    """Why it cannot be read."""
    has_expected_head: bool = False
    """Whether the row with the hash that was sought is there."""

    @property
    def is_ok(self) -> bool:
        """Whether it was read and holds."""
        return self.fault is None and self.error is None

    @property
    def fails_at_once(self) -> bool:
        """Whether not even the first row holds, as with a wrong key."""
        return self.fault is not None and self.fault.seq == self.checkpoint.seq + 1


@attrs.frozen
class JournalState:
    """What a journal has at one moment."""

    checkpoint: Checkpoint = attrs.field(factory=Checkpoint)
    records: int = 0
    first: Link | None = None
    """Its first row."""
    has_expected_head: bool = False
    """Whether the row with the hash that was sought is there, if only as the anchor."""


def check(
    path: Path, key: bytes, expected_head: bytes = b"", progress: Progress = lambda _: None
) -> Checked:
    """Follow the chain of a journal, in constant memory; a million rows take some ten seconds.

    Args:
        path: of the journal.
        key: of the chain; empty for none.
        sought: the hash of a row, noted elsewhere.
        progress: told how many rows were followed, from time to time.

    """
    try:
        return _check(path, key, expected_head, progress)
    except JournalError as error:
        return Checked(path.name, error=str(error))


def _check(path: Path, key: bytes, expected_head: bytes, progress: Progress) -> Checked:
    with reading(path) as connection:
        if is_unmade(connection):
            return Checked(path.name)
        checkpoint = _checkpoint_of(connection, path)
        head, fault = verify(checkpoint, counted(_links(connection, *_ALL), progress), key)
        [(records,)] = connection.execute("SELECT count(*) FROM rows")
        is_there = _has(connection, checkpoint, expected_head)
        identity = _identity_of(connection)
    return Checked(
        path.name,
        identity,
        records,
        checkpoint,
        head,
        checkpoint.seq,
        fault,
        has_expected_head=is_there,
    )


def identity_of(path: Path) -> str:
    """Which journal it is; nothing where it is just being made. Raises JournalError."""
    with reading(path) as connection:
        return "" if is_unmade(connection) else _identity_of(connection)


def state_of(path: Path, expected_head: bytes = b"") -> JournalState:
    """How a journal stands. Raises JournalError."""
    with reading(path) as connection:
        checkpoint = _checkpoint_of(connection, path)
        [(records,)] = connection.execute("SELECT count(*) FROM rows")
        first = next(_links(connection, -MAX_INT64, 1), None)
        return JournalState(checkpoint, records, first, _has(connection, checkpoint, expected_head))


def links_after(path: Path, after: int, size: int) -> tuple[Checkpoint, list[Link]]:
    """The anchor of a journal, and at the same moment some rows. Raises JournalError."""
    with reading(path) as connection:
        return _checkpoint_of(connection, path), list(_links(connection, after, size))


def counted(links: Iterable[Link], progress: Progress) -> Iterator[Link]:
    """The same, while progress is told of."""
    for number, record in enumerate(links, 1):
        if number % STRIDE == 0:
            progress(number)
        yield record


def _has(connection: Any, checkpoint: Checkpoint, expected_head: bytes) -> bool:
    if not expected_head or expected_head == checkpoint.hash:
        return bool(expected_head)
    found = connection.execute("SELECT 1 FROM rows WHERE hash = ?", (expected_head,)).fetchone()
    return found is not None


def _identity_of(connection: Any) -> str:
    [(name,)] = connection.execute(_IDENTITY)
    return str(name or b"", errors="replace")


def _checkpoint_of(connection: Any, path: Path) -> Checkpoint:
    checkpoint = checkpoint_of(connection)
    if not _is_checkpoint(checkpoint.seq, checkpoint.hash):
        raise JournalError(f"{path}: the anchor is not as this program writes it")
    return checkpoint


def _is_checkpoint(seq: object, digest: object) -> bool:
    """Whether it is of the kinds that it should be, as SQLite takes any."""
    return isinstance(seq, int) and isinstance(digest, bytes)


def _links(connection: Any, after: int, size: int) -> Iterator[Link]:
    for seq, request_id, document, digest in connection.execute(_LINKS, (after, size)):
        yield Link(seq, request_id.decode(errors="replace"), _text(document), digest)


def _text(document: bytes) -> str:
    """A row's text; of what is no text, one that no row has, so that its hash cannot hold."""
    try:
        return document.decode()
    except UnicodeDecodeError:
        return ""
