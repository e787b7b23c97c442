"""Clocks that a test sets, and records of a given age."""

from __future__ import annotations

from datetime import UTC, datetime

import attrs

from ollama_gateway.ledger.document import document_of
from ollama_gateway.ledger.journal import JournalEntry
from ollama_gateway.ledger.retention import DAY, Clocks
from tests.ledger.records import record

NOW = datetime.now(UTC).timestamp()
KEEP = 30 * DAY


@attrs.define
class Time:
    """A machine's two clocks."""

    wall: float = NOW
    steady: float = 5.0

    def pass_(self, seconds: float) -> None:
        """Let the same time pass on both clocks."""
        self.wall += seconds
        self.steady += seconds

    @property
    def clocks(self) -> Clocks:
        """The view of a process that starts now."""
        return Clocks(lambda: self.wall, lambda: self.steady)


def days_ago(days: float) -> float:
    """Return a moment that many days before `NOW`."""
    return NOW - days * DAY


def entries(prefix: str, count: int, days: float) -> list[JournalEntry]:
    """Return the ends of requests that began that many days ago."""
    began = datetime.fromtimestamp(days_ago(days), UTC)
    records = [attrs.evolve(record(f"{prefix}{n}"), started_at=began) for n in range(count)]
    return [JournalEntry(one.request_id, document_of(one), is_final=True) for one in records]
