"""Records for people: one per line in `audit list`, and a whole one in `audit show`.

Every value is shown so that a terminal takes it for text (`printable`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ollama_gateway.cli.audit.outcomes import OUTCOMES
from ollama_gateway.cli.table import NOTHING, Column, Row
from ollama_gateway.ledger.document import Document
from ollama_gateway.ledger.read.records import StoredRecord
from ollama_gateway.ledger.summary import RUNNING, milliseconds, outcome_of, tokens_of
from ollama_gateway.printable import printable
from ollama_gateway.reasons import Reason, words_of

_SOURCES: Final = {
    "reported": ", as the backend reported",
    "counted": ", estimated here",
    "prompt_counted": ", the prompt estimated here, the rest as the backend reported",
    "completion_counted": ", the completion estimated here, the rest as the backend reported",
}


def row_of(record: StoredRecord) -> Row:
    """Return a record's cells in `audit list`."""
    return tuple(NOTHING if cell is None else str(cell) for cell in _cells(record.document))


def render_record(record: StoredRecord) -> Iterator[str]:
    """Yield the lines of `audit show`."""
    for name, value in _facts(record):
        yield f"{name:<13}{value}"
    yield ""
    for when, what in timeline(record.document):
        yield f"{when:>27}  {what}"


def _facts(record: StoredRecord) -> Iterator[tuple[str, str]]:
    document = record.document
    yield "request", _shown(document["request_id"])
    yield "key", f"{_shown(document['key_name'])} ({_shown(document['key_id'])})"
    yield "end user", _shown(document["end_user"])
    yield "client", _shown(document["client"])
    yield "asked", f"{_shown(document['endpoint'])} ({_shown(document['dialect'])})"
    if document["changed"]:
        yield "changed", _shown(document["changed"].replace(",", ", "))
    asked = f" (asked for as {_shown(document['alias'])})" if document["alias"] else ""
    yield "model", _shown(document["model"]) + asked
    yield "backend", _shown(document["backend"])
    yield "outcome", _outcome_in_words(document)
    if document["reason"] not in {None, document["outcome"]}:
        yield "reason", _reason(document["reason"])
    yield "status", str(document["status"] or "- (no answer was begun)")
    yield "tokens", _tokens_in_words(document)
    yield "bytes", f"{document['bytes_in'] or 0:,} in, {document['bytes_out'] or 0:,} out"
    if record.journal:  # else it came from a gateway, which does not tell
        place = f"record {record.seq}" if record.seq else "open"
        yield "recorded in", f"{_shown(record.journal)}, {place}"


def timeline(document: Document) -> Iterator[tuple[str, str]]:
    """Yield what happened to a request, and when: its arrival in UTC, the rest in ms after it."""
    yield document["started_at"], "the request arrived"
    for attempt in document["attempts"]:
        backend = _shown(attempt["backend"])
        also = " as a hedge, because the first was slow" if attempt["hedge"] else ""
        model = f" for {_shown(attempt['model'])}" if attempt["model"] else ""
        yield _after(attempt["started_ms"]), f"asked {backend}{model}{also}"
        if attempt["first_chunk_ms"] is not None:
            yield _after(attempt["first_chunk_ms"]), f"first chunk from {backend}"
        if attempt["reason"] == Reason.LOST_TO_HEDGE:
            yield "", f"{backend} was cancelled: {Reason.LOST_TO_HEDGE.words}"
        elif attempt["reason"] is not None:
            yield "", f"{backend} failed: {_reason(attempt['reason'])}"
        elif attempt["first_chunk_ms"] is None:
            yield "", f"{backend} was cancelled before its first chunk"
    if document["outcome"] == "killed":
        yield "", "the gateway was killed, and what happened until then is not known"
    elif document["outcome"] is not None:
        yield _after(document["duration_ms"]), f"ended: {_shown(document['outcome'])}"


def _after(milliseconds: float) -> str:
    return f"+{milliseconds:,.0f} ms"


def _outcome_in_words(document: Document) -> str:
    outcome = document["outcome"]
    if outcome is None:
        return f"{RUNNING}: it has not ended"
    words = OUTCOMES.get(outcome)
    return f"{_shown(outcome)}: {words}" if words else _shown(outcome)


def _reason(reason: str) -> str:
    words = words_of(reason)
    return f"{_shown(reason)}: {words}" if words else _shown(reason)


def _tokens_in_words(document: Document) -> str:
    prompt, completion = document["prompt_tokens"], document["completion_tokens"]
    if prompt is None and completion is None:
        return "none"
    source = _SOURCES.get(document["tokens_source"] or "", "")
    cached = document["cached_tokens"]
    of_them = f" ({cached:,} cached)" if cached is not None else ""
    return f"{prompt or 0:,} prompt{of_them}, {completion or 0:,} completion{source}"


def _shown(value: str | None) -> str:
    return "-" if value is None else printable(value)


def _cells(document: Document) -> Iterator[str | None]:
    yield document["started_at"][:19] + "Z"
    yield document["key_name"]
    yield document["end_user"]
    yield document["model"]
    yield document["backend"]
    yield outcome_of(document)
    yield tokens_of(document)
    yield milliseconds(document["ttft_ms"])
    yield milliseconds(document["duration_ms"]) if document["outcome"] else None
    yield document["request_id"]


COLUMNS: Final = (
    Column("began"),
    Column("key"),
    Column("end user", 5),
    Column("model"),
    Column("backend", 1),
    Column("outcome"),
    Column("tokens", 2, is_number=True),
    Column("first chunk", 4, is_number=True),
    Column("took", 3, is_number=True),
    Column("request"),
)
"""The columns of `audit list`."""
TYPICAL: Final[Row] = (
    *("2026-01-02T03:04:05Z", "a-key-of-ours", NOTHING, "llama3.2:3b-instruct", "gpu-1"),
    *("refused: budget", "1000+1000", "1,000 ms", "10,000 ms", "0" * 32),
)
"""A row for the widths of a table whose first record is still to come."""
