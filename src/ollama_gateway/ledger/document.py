"""Audit records as they are stored and shown: plain values; no prompt, no answer, no key.

A record is that of a request, or of a change by an operator, which stands in the same chains. A
change is no request: no sum, metric or budget counts it. Its field `kind` tells it from requests,
whose documents have none.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from ollama_gateway.ledger.fields import MOMENT, document_maker
from ollama_gateway.ledger.record import RECORD_FIELDS, AuditRecord
from ollama_gateway.reasons import Reason

if TYPE_CHECKING:
    from ollama_gateway.ledger.operator_change import OperatorChange

Document = dict[str, Any]
_make: Final = document_maker(RECORD_FIELDS)
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode
"""`json.dumps` would make an encoder for each document."""
CHANGE: Final = "change"
"""The kind of the documents of changes."""
ChangeOutcome = Literal["made", "failed", "unknown"]
"""`unknown`: the process ended, or was interrupted, before the end of the change was recorded."""
CHANGE_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "kind": (str,),
    "change_id": (str,),
    "at": (str,),
    "by": (str,),
    "action": (str,),
    "target": (str,),
    "before": (dict,),
    "after": (dict,),
    "reason": (str,),
    "outcome": (str,),
}
"""The fields of a change in their order, and their types in JSON; null is allowed too."""

CREATE_CHANGES: Final = "CREATE TABLE IF NOT EXISTS changes (seq INTEGER PRIMARY KEY)"
"""The numbers of the records that are changes; they have no facts (`facts.py`)."""
# One that an edited file has already must not stop the writer.
ADD_CHANGE: Final = "INSERT OR REPLACE INTO changes VALUES (?)"


def document_of(record: AuditRecord) -> Document:
    """Return all that is stored of a request; times in ms, `started_at` in UTC (RFC 3339)."""
    return _make(record)


def intent_of(record: AuditRecord) -> Document:
    """Return the document of a request that was just admitted: it has no outcome yet."""
    return {**document_of(record), "outcome": None}


def killed(intent: Document, charge: tuple[int, int] | None) -> Document:
    """Return the record of a request whose process was killed before the request ended.

    Args:
        intent: the document that was written at admission.
        charge: tokens of prompt and answer that a budget is charged; None where none is.

    """
    document = {**intent, "outcome": "killed", "reason": Reason.KILLED}
    if charge is not None:
        prompt, answer = charge
        document |= {"prompt_tokens": prompt, "completion_tokens": answer}
        document["tokens_source"] = "counted"
    return document


def to_text(document: Document) -> str:
    """Return the document as it is stored and hashed, on one line."""
    return _encode(document)


def parsed(text: bytes | str) -> Document:
    """Return a stored document; {} if it is not an object of JSON, which only an altered one is."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def begun(change: OperatorChange, change_id: str) -> Document:
    """Return the document of a change that is about to be made: it has no outcome yet."""
    return {
        "kind": CHANGE,
        "change_id": change_id,
        "at": MOMENT.to_json(datetime.now(UTC)),
        "by": change.by,
        "action": change.action,
        "target": change.target,
        "before": None if change.before is None else dict(change.before),
        "after": None if change.after is None else dict(change.after),
        "reason": change.reason,
        "outcome": None,
    }


def ended(document: Document, change: OperatorChange, outcome: ChangeOutcome) -> Document:
    """Return the document of a change that has ended, with what `after` says by now."""
    after = None if change.after is None else dict(change.after)
    return {**document, "after": after, "outcome": outcome}


def ended_by_kill(intent: Document, charge: tuple[int, int] | None) -> Document:
    """Return the record of a request or a change whose process was killed before its end.

    Args:
        intent: the document that was written at its beginning.
        charge: of a request; see `killed`.

    """
    return {**intent, "outcome": "unknown"} if is_change(intent) else killed(intent, charge)


def is_change(document: Document) -> bool:
    """Return whether a document is that of a change."""
    return document.get("kind") == CHANGE
