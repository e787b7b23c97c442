"""Read records as they are there now, and go on with those that follow."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Final

from ollama_gateway.ledger.read.audit_log import AuditLog, merged, start_at_newest
from ollama_gateway.ledger.read.filtering import Filter
from ollama_gateway.ledger.read.records import StoredRecord

FIRST: Final = 200
"""Records from which the widths of a table are taken."""
NAP: Final = 0.5
"""Seconds between two looks for new records."""


def newest(audit_log: AuditLog, wanted: Filter, limit: int | None) -> Iterator[StoredRecord]:
    """Yield the newest wanted records that are there now, or all if there is no limit."""
    segments = audit_log.segments()
    if limit is not None:
        start_at_newest(segments, wanted, limit)
    yield from merged(segments, wanted)


def following(
    audit_log: AuditLog, wanted: Filter, stopped: threading.Event
) -> Iterator[StoredRecord]:
    """Yield the wanted records that come, until the event is set."""
    while not stopped.wait(NAP):
        yield from audit_log.records(wanted)
