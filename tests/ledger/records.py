"""Audit records and journals for tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from ollama_gateway.ledger.chain import Link, verify
from ollama_gateway.ledger.document import document_of, intent_of
from ollama_gateway.ledger.journal import Journal, JournalEntry, checkpoint_of, links_of, reading
from ollama_gateway.ledger.operator_change import OperatorChange
from ollama_gateway.ledger.record import AuditRecord

KEY = b"secret"
BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

CHANGE = OperatorChange("mia", "keys.update", "k1", {"name": "alice"}, {"name": "bob"}, "a typo")


def record(request_id: str, *, minutes: int = 0) -> AuditRecord:
    """Return a completed request that began that many minutes after `BEGAN`."""
    return AuditRecord(
        request_id=request_id,
        key_id="id",
        key_name="name",
        endpoint="/api/chat",
        dialect="ollama",
        client="192.0.2.7",
        arrived=0,
        started_at=BEGAN + timedelta(minutes=minutes),
        model="m1:latest",
        status=200,
    )


def intent(request_id: str) -> JournalEntry:
    """Return its admission."""
    return JournalEntry(request_id, intent_of(record(request_id)), is_final=False)


def final(request_id: str, *, minutes: int = 0) -> JournalEntry:
    """Return its end."""
    return JournalEntry(request_id, document_of(record(request_id, minutes=minutes)), is_final=True)


def journal(path: Path, *, max_bytes: int = 2**30) -> Journal:
    """Open the unowned journal at a path."""
    return Journal(path, is_strict=False, key=KEY, max_bytes=max_bytes)


def stored(path: Path) -> list[Link]:
    """Return the finished records of a journal, whose chain must hold."""
    with reading(path) as connection:
        checkpoint, links = checkpoint_of(connection), list(links_of(connection))
    head, fault = verify(checkpoint, links, KEY)
    assert fault is None
    assert head.seq == (links[-1].seq if links else checkpoint.seq)
    return links


def ids(path: Path) -> list[str]:
    """Return the ids of the finished requests, in order."""
    return [link.request_id for link in stored(path)]
