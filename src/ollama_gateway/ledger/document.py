"""A row as it is stored and shown: plain values in one order; no prompt, no answer, no key."""

from __future__ import annotations

import json
from typing import Any

from ollama_gateway.ledger.record import AuditRecord
from ollama_gateway.reasons import Reason

Document = dict[str, Any]


def document_of(record: AuditRecord) -> Document:
    """All that is kept of a request; times in ms, `started_at` in UTC (RFC 3339)."""
    return {
        "request_id": record.request_id,
        "started_at": record.started_at.isoformat(timespec="microseconds"),
        "key_id": record.key_id,
        "key_name": record.key_name,
        "end_user": record.end_user,
        "client": record.client,
        "endpoint": record.endpoint,
        "dialect": record.dialect,
        "model": record.model,
        "backend": record.backend,
        "outcome": record.outcome,
        "reason": record.reason,
        "status": record.status,
        "prompt_tokens": record.prompt_tokens,
        "completion_tokens": record.completion_tokens,
        "tokens_source": record.tokens_source,
        "spender": record.spender,
        "ttft_ms": _milliseconds(record.ttft),
        "duration_ms": _milliseconds(record.duration),
        "bytes_in": record.bytes_in,
        "bytes_out": record.bytes_out,
        "attempts": [
            {
                "backend": attempt.backend,
                "started_ms": _milliseconds(attempt.started),
                "hedge": attempt.is_hedge,
                "first_chunk_ms": _milliseconds(attempt.first_chunk),
                "reason": attempt.reason,
            }
            for attempt in record.attempts
        ],
    }


def intent_of(record: AuditRecord) -> Document:
    """What is known of a request when it is admitted: it has no outcome yet."""
    return {**document_of(record), "outcome": None}


def killed(intent: Document, charge: tuple[int, int] | None) -> Document:
    """What becomes of an intent whose process was killed before the request had ended.

    Args:
        intent: as it was written.
        charge: tokens of prompt and answer that a budget is charged; None where none is.

    """
    document = {**intent, "outcome": "killed", "reason": Reason.KILLED}
    if charge is not None:
        prompt, answer = charge
        document |= {"prompt_tokens": prompt, "completion_tokens": answer}
        document["tokens_source"] = "counted"
    return document


def to_text(document: Document) -> str:
    """As it is stored, on one line."""
    return json.dumps(document, separators=(",", ":"))


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
