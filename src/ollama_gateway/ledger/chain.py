"""The hash chain that reveals an altered journal: each record's hash covers the one before.

With `audit.chain_key` the hash is an HMAC (RFC 2104, SHA-256), so only a holder of the key can make
a chain that verifies. Without it, anyone who can write the file can rebuild the chain; then only a
head noted elsewhere reveals the change, which is why the head goes to the log.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

import attrs

GENESIS: Final = bytes(32)
"""The hash before the first record of a journal."""


@attrs.frozen
class Link:
    """A finished record, as it stands in a journal."""

    seq: int
    """From 1, without gaps."""
    request_id: str
    document: str
    """The record as JSON; the hash covers exactly these characters."""
    hash: bytes
    is_true_to_columns: bool = True
    """Whether the columns beside the document, where there are any, agree with it."""


@attrs.frozen
class Checkpoint:
    """The record before the first that is still there; (0, GENESIS) if none was dropped."""

    seq: int = 0
    hash: bytes = GENESIS


@attrs.frozen
class ChainFault:
    """The first record at which a chain does not hold."""

    seq: int
    request_id: str
    reason: str
    """`altered`, `missing` (records before this one), `reordered`; `columns` (they contradict the
    document), `stray` (columns without a record).
    """


def link(previous: bytes, seq: int, request_id: str, document: str, key: bytes) -> bytes:
    """Return the hash of a record."""
    text = b"%s%d\n%s\n%s" % (previous, seq, request_id.encode(), document.encode())
    return hmac.digest(key, text, hashlib.sha256)


def verify(
    checkpoint: Checkpoint, links: Iterable[Link], key: bytes
) -> tuple[Checkpoint, ChainFault | None]:
    """Follow a chain from a checkpoint; return its head and the first fault, if there is one."""
    head = checkpoint
    for record in links:
        if record.seq != head.seq + 1:
            reason = "missing" if record.seq > head.seq + 1 else "reordered"
            return head, ChainFault(record.seq, record.request_id, reason)
        expected = link(head.hash, record.seq, record.request_id, record.document, key)
        if not hmac.compare_digest(expected, record.hash):
            return head, ChainFault(record.seq, record.request_id, "altered")
        if not record.is_true_to_columns:
            return head, ChainFault(record.seq, record.request_id, "columns")
        head = Checkpoint(record.seq, record.hash)
    return head, None
