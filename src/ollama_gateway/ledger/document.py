"""A row as it is stored and shown: plain values in one order; no prompt, no answer, no key."""

from __future__ import annotations

import json
from typing import Any

from ollama_gateway.ledger.record import Row

Document = dict[str, Any]


def document_of(row: Row) -> Document:
    """All that is kept of a request; times in ms, `started_at` in UTC (RFC 3339)."""
    return {
        "request_id": row.request_id,
        "started_at": row.started_at.isoformat(timespec="microseconds"),
        "key_id": row.key_id,
        "key_name": row.key_name,
        "end_user": row.end_user,
        "client": row.client,
        "endpoint": row.endpoint,
        "dialect": row.dialect,
        "model": row.model,
        "backend": row.backend,
        "outcome": row.outcome,
        "reason": row.reason,
        "status": row.status,
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
        "tokens_source": row.tokens_source,
        "spender": row.spender,
        "ttft_ms": _milliseconds(row.ttft),
        "duration_ms": _milliseconds(row.duration),
        "bytes_in": row.bytes_in,
        "bytes_out": row.bytes_out,
        "attempts": [
            {
                "backend": attempt.backend,
                "started_ms": _milliseconds(attempt.started),
                "hedge": attempt.is_hedge,
                "first_chunk_ms": _milliseconds(attempt.first_chunk),
                "reason": attempt.reason,
            }
            for attempt in row.attempts
        ],
    }


def intent_of(row: Row) -> Document:
    """What is known of a request when it is admitted: it has no outcome yet."""
    return {**document_of(row), "outcome": None}


def killed(intent: Document, charge: tuple[int, int] | None) -> Document:
    """What becomes of an intent whose process was killed before the request had ended.

    Args:
        intent: as it was written.
        charge: tokens of prompt and answer that a budget is charged; None where none is.

    """
    document = {**intent, "outcome": "killed", "reason": "killed"}
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
