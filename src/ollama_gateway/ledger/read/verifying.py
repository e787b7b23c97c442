"""Verifies the journals of this machine: follows each chain from its checkpoint to its head."""

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
"""Records between two reports of progress."""

# As bytes: an edited file can hold anything, and that is to be named, not to end the search.
_LINKS: Final = """SELECT seq, CAST(request_id AS BLOB), CAST(document AS BLOB), CAST(hash AS BLOB)
    FROM rows WHERE seq > ? ORDER BY seq LIMIT ?"""
_ALL: Final = (-MAX_INT64, -1)
_IDENTITY: Final = "SELECT CAST(identity AS BLOB) FROM chain"

Progress = Callable[[int], None]


@attrs.frozen
class ChainReport:
    """The result of following one chain."""

    journal: str
    """The journal's file name; its identity if it is in PostgreSQL alone."""
    identity: str = ""
    """The journal's identity, the same wherever its records are."""
    records: int = 0
    """How many records are there."""
    checkpoint: Checkpoint = attrs.field(factory=Checkpoint)
    """The record before the first."""
    head: Checkpoint = attrs.field(factory=Checkpoint)
    """The last record up to which the chain holds."""
    dropped: int = 0
    """Records up to the checkpoint, dropped for their age, which cannot be verified."""
    fault: ChainFault | None = None
    """The first record at which it does not hold."""
    error: str | None = None
    """Why it cannot be read."""
    has_expected_head: bool = False
    """Whether the record with the expected hash is there."""

    @property
    def is_ok(self) -> bool:
        """Whether the chain was read and holds."""
        return self.fault is None and self.error is None

    @property
    def fails_at_once(self) -> bool:
        """Whether not even the first record holds, as with a wrong key."""
        return self.fault is not None and self.fault.seq == self.checkpoint.seq + 1


@attrs.frozen
class JournalState:
    """The contents of a journal at one moment."""

    checkpoint: Checkpoint = attrs.field(factory=Checkpoint)
    records: int = 0
    first: Link | None = None
    """Its first record."""
    has_expected_head: bool = False
    """Whether the record with the expected hash is there, or is the checkpoint."""


def check(
    path: Path, key: bytes, expected_head: bytes = b"", progress: Progress = lambda _: None
) -> ChainReport:
    """Follow the chain of a journal, in constant memory; a million records take some ten seconds.

    Args:
        path: of the journal.
        key: of the chain; empty for none.
        expected_head: the hash of a record, noted elsewhere; empty for none.
        progress: called from time to time with the number of records followed.

    """
    try:
        return _check(path, key, expected_head, progress)
    except JournalError as error:
        return ChainReport(path.name, error=str(error))


def _check(path: Path, key: bytes, expected_head: bytes, progress: Progress) -> ChainReport:
    with reading(path) as connection:
        if is_unmade(connection):
            return ChainReport(path.name)
        checkpoint = _checkpoint_of(connection, path)
        head, fault = verify(checkpoint, with_progress(_links(connection, *_ALL), progress), key)
        [(records,)] = connection.execute("SELECT count(*) FROM rows")
        is_there = _has(connection, checkpoint, expected_head)
        identity = _identity_of(connection)
    return ChainReport(
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
    """Return a journal's identity; "" if it is just being made. Raises JournalError."""
    with reading(path) as connection:
        return "" if is_unmade(connection) else _identity_of(connection)


def state_of(path: Path, expected_head: bytes = b"") -> JournalState:
    """Return the state of a journal. Raises JournalError."""
    with reading(path) as connection:
        checkpoint = _checkpoint_of(connection, path)
        [(records,)] = connection.execute("SELECT count(*) FROM rows")
        first = next(_links(connection, -MAX_INT64, 1), None)
        return JournalState(checkpoint, records, first, _has(connection, checkpoint, expected_head))


def links_after(path: Path, after: int, size: int) -> tuple[Checkpoint, list[Link]]:
    """Return a journal's checkpoint and some records, read together. Raises JournalError."""
    with reading(path) as connection:
        return _checkpoint_of(connection, path), list(_links(connection, after, size))


def with_progress(links: Iterable[Link], progress: Progress) -> Iterator[Link]:
    """Yield the same links, and report progress."""
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
        raise JournalError(f"{path}: the checkpoint is not as this program writes it")
    return checkpoint


def _is_checkpoint(seq: object, digest: object) -> bool:
    """Return whether the values have the right types, since SQLite stores any."""
    return isinstance(seq, int) and isinstance(digest, bytes)


def _links(connection: Any, after: int, size: int) -> Iterator[Link]:
    for seq, request_id, document, digest in connection.execute(_LINKS, (after, size)):
        yield Link(seq, request_id.decode(errors="replace"), _text(document), digest)


def _text(document: bytes) -> str:
    """Return a record's text; "" if it is not UTF-8, so that its hash cannot hold."""
    try:
        return document.decode()
    except UnicodeDecodeError:
        return ""
