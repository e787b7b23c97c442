"""Records of the audit log, as documents: pages of them, and one by its id. Everything blocks."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Any

from ollama_gateway.control.errors import NoSuchThing, Problem, WrongInput
from ollama_gateway.ledger.document import Document
from ollama_gateway.ledger.read.audit_log import AuditPlace, start_at_newest
from ollama_gateway.ledger.read.export_cursor import cursor_of, reached_by
from ollama_gateway.ledger.read.filtering import Filter
from ollama_gateway.ledger.read.records import StoredRecord
from ollama_gateway.ledger.read.segment import Segment
from ollama_gateway.printable import printable
from ollama_gateway.settings.units import shown

AuditDocument = dict[str, Any]


def audit_page(
    place: AuditPlace, wanted: Filter, limit: int, *, cursor: str | None, newest: bool
) -> AuditDocument:
    """Return records in the order in which their requests ended.

    Args:
        place: the audit log.
        wanted: the records to return.
        limit: how many at most.
        cursor: only records after those that an earlier page had reached.
        newest: whether the page has the newest records, not the first ones.

    Returns:
        `items`; `next`, the cursor of the next page, None if there is none now; `position`, the
        cursor to go on from later; `faults`, a line for each thing that cannot be read.

    Raises:
        WrongInput: the cursor is none, or does not go with the newest.

    """
    reached = _reached(cursor, newest=newest)
    faults: list[str] = []
    with place.reading(lambda line: faults.append(printable(line))) as audit_log:
        segments = audit_log.segments()
        for segment in segments:
            segment.after = reached.get(segment.identity, 0)
        if newest:
            start_at_newest(segments, wanted, limit)
            reached = {segment.identity: segment.after for segment in segments}
        items: list[Document] = []
        is_whole = True
        for segment, record in _merged(segments, wanted):
            if len(items) == limit:
                is_whole = False
                break
            items.append(record.document)
            reached[segment.identity] = record.seq
        if is_whole and not audit_log.is_table_away:
            for segment in segments:
                reached[segment.identity] = max(segment.last, reached.get(segment.identity, 0))
    position = cursor_of(reached)
    following = None if is_whole else position
    return {"items": items, "next": following, "position": position, "faults": faults}


def audit_record(place: AuditPlace, record_id: str) -> Document:
    """Return the record of a request or a change, ended or not; raises NoSuchThing."""
    faults: list[str] = []
    with place.reading(faults.append) as audit_log:
        record = audit_log.find(record_id)
    if record is None:
        unread = f" ({printable(faults[0])})" if faults else ""
        raise NoSuchThing(f"no request {shown(record_id)} is recorded{unread}")
    return record.document


def _reached(cursor: str | None, *, newest: bool) -> dict[str, int]:
    if cursor is None:
        return {}
    if newest:
        raise WrongInput([Problem("newest", "does not go with a cursor")])
    try:
        return reached_by(cursor)
    except ValueError:
        raise WrongInput([Problem("cursor", f"{shown(cursor)} is no cursor")]) from None


def _merged(segments: Sequence[Segment], wanted: Filter) -> Iterator[tuple[Segment, StoredRecord]]:
    """Yield the wanted records in the order of their ends, each with its segment."""
    return heapq.merge(
        *(_of(segment, wanted) for segment in segments), key=lambda one: one[1].ended
    )


def _of(segment: Segment, wanted: Filter) -> Iterator[tuple[Segment, StoredRecord]]:
    return ((segment, record) for record in segment.records(wanted))
