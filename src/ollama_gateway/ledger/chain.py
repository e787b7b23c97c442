"""The chain that makes an altered trail show: each finished row's hash covers the one before it.

With `audit.chain_key` the hash is an HMAC (RFC 2104, SHA-256), so that nobody without the key can
make a trail that holds. Without it anybody who can write the file can make the chain anew; then
only a head that was noted elsewhere shows it, which is why the head goes to the log.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

import attrs

GENESIS: Final = bytes(32)
"""What comes before the first row of a journal."""


@attrs.frozen
class Link:
    """A finished row, as it lies in a journal."""

    seq: int
    """From 1, without gaps."""
    request_id: str
    document: str
    """The row as JSON; these very characters are hashed."""
    hash: bytes


@attrs.frozen
class Checkpoint:
    """The row before the first that is still there; (0, GENESIS) where none was trimmed."""

    seq: int = 0
    hash: bytes = GENESIS


@attrs.frozen
class ChainFault:
    """The first place where a chain does not hold."""

    seq: int
    request_id: str
    reason: str
    """`altered`, `missing` (rows before this one), `reordered`."""


def link(previous: bytes, seq: int, request_id: str, document: str, key: bytes) -> bytes:
    """The hash of a row."""
    said = b"%s%d\n%s\n%s" % (previous, seq, request_id.encode(), document.encode())
    return hmac.digest(key, said, hashlib.sha256)


def verify(
    checkpoint: Checkpoint, links: Iterable[Link], key: bytes
) -> tuple[Checkpoint, ChainFault | None]:
    """Follow a chain from its anchor: where its head is, and the first fault, if there is one."""
    head = checkpoint
    for record in links:
        if record.seq != head.seq + 1:
            reason = "missing" if record.seq > head.seq + 1 else "reordered"
            return head, ChainFault(record.seq, record.request_id, reason)
        expected = link(head.hash, record.seq, record.request_id, record.document, key)
        if not hmac.compare_digest(expected, record.hash):
            return head, ChainFault(record.seq, record.request_id, "altered")
        head = Checkpoint(record.seq, record.hash)
    return head, None
