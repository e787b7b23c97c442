"""Records for people: one per line in `audit list`, and a whole one in `audit show`.

Every value is shown so that a terminal takes it for text (`printable`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any, Final

import attrs

from ollama_gateway.cli.audit.outcomes import OUTCOMES
from ollama_gateway.ledger.document import Document
from ollama_gateway.ledger.read.records import StoredRecord
from ollama_gateway.printable import printable
from ollama_gateway.reasons import Reason, words_of

RUNNING: Final = "running"
"""Shown as the outcome of a request that has none yet."""

_SOURCES: Final = {
    "reported": ", as the backend reported",
    "counted": ", estimated here",
    "prompt_counted": ", the prompt estimated here, the rest as the backend reported",
    "completion_counted": ", the completion estimated here, the rest as the backend reported",
}
_WIDEST: Final = 40
"""Characters of a cell; `audit show` has the whole value."""


def head() -> str:
    """Return the line with the names of the columns."""
    return _line([column.name for column in _COLUMNS])


def line(record: StoredRecord) -> str:
    """Return a record on one line. Widths are fixed; a longer cell shifts the rest of its line."""
    return _line([_cell(column.value(record.document)) for column in _COLUMNS])


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
    yield "model", _shown(document["model"])
    yield "backend", _shown(document["backend"])
    yield "outcome", _outcome_in_words(document)
    if document["reason"] not in {None, document["outcome"]}:
        yield "reason", _reason(document["reason"])
    yield "status", str(document["status"] or "- (no answer was begun)")
    yield "tokens", _tokens_in_words(document)
    yield "bytes", f"{document['bytes_in'] or 0:,} in, {document['bytes_out'] or 0:,} out"
    yield (
        "recorded in",
        f"{_shown(record.journal)}, " + (f"record {record.seq}" if record.seq else "open"),
    )


def timeline(document: Document) -> Iterator[tuple[str, str]]:
    """Yield what happened to a request, and when: its arrival in UTC, the rest in ms after it."""
    yield document["started_at"], "the request arrived"
    for attempt in document["attempts"]:
        backend = _shown(attempt["backend"])
        also = " as a hedge, because the first was slow" if attempt["hedge"] else ""
        yield _after(attempt["started_ms"]), f"asked {backend}{also}"
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


def _outcome(document: Document) -> str:
    outcome, reason = document["outcome"], document["reason"]
    if outcome is None:
        return RUNNING
    return str(outcome) if reason in {None, outcome} else f"{outcome}: {reason}"


def _outcome_in_words(document: Document) -> str:
    outcome = document["outcome"]
    if outcome is None:
        return f"{RUNNING}: it has not ended"
    words = OUTCOMES.get(outcome)
    return f"{_shown(outcome)}: {words}" if words else _shown(outcome)


def _reason(reason: str) -> str:
    words = words_of(reason)
    return f"{_shown(reason)}: {words}" if words else _shown(reason)


def _tokens(document: Document) -> str | None:
    prompt, completion = document["prompt_tokens"], document["completion_tokens"]
    if prompt is None and completion is None:
        return None
    mark = "~" if (document["tokens_source"] or "").endswith("counted") else ""
    return f"{mark}{prompt or 0}+{completion or 0}"


def _tokens_in_words(document: Document) -> str:
    prompt, completion = document["prompt_tokens"], document["completion_tokens"]
    if prompt is None and completion is None:
        return "none"
    source = _SOURCES.get(document["tokens_source"] or "", "")
    return f"{prompt or 0:,} prompt, {completion or 0:,} completion{source}"


def _shown(value: str | None) -> str:
    return "-" if value is None else printable(value)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    text = printable(value)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 3] + "..."


def _line(cells: list[str]) -> str:
    padded = (f"{cell:{column.width}}" for cell, column in zip(cells, _COLUMNS, strict=True))
    return "  ".join(padded).rstrip()


def _duration(document: Document) -> str | None:
    return _time(document["duration_ms"]) if document["outcome"] else None


def _time(milliseconds: float | None) -> str | None:
    return None if milliseconds is None else f"{milliseconds:,.0f} ms"


@attrs.frozen
class Column:
    """A column of `audit list`."""

    name: str
    width: int
    value: Callable[[Document], Any]


_COLUMNS: Final = (
    Column("began", 20, lambda document: document["started_at"][:19] + "Z"),
    Column("key", 12, itemgetter("key_name")),
    Column("model", 20, itemgetter("model")),
    Column("backend", 10, itemgetter("backend")),
    Column("outcome", 24, _outcome),
    Column("tokens", 11, _tokens),
    Column("first chunk", 11, lambda document: _time(document["ttft_ms"])),
    Column("took", 9, _duration),
    Column("request", 0, itemgetter("request_id")),
)
