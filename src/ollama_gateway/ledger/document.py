"""An audit record as it is stored and shown: plain values; no prompt, no answer, no key."""

from __future__ import annotations

import json
from typing import Any, Final

from ollama_gateway.ledger.fields import document_maker
from ollama_gateway.ledger.record import RECORD_FIELDS, AuditRecord
from ollama_gateway.reasons import Reason

Document = dict[str, Any]
_make: Final = document_maker(RECORD_FIELDS)
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode
"""`json.dumps` would make an encoder for each document."""


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
