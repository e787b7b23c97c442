"""What all dialects need to read a backend's JSON without trusting it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final, cast

from ollama_gateway.wire.dialects import Reading, Usage

GARBLED: Final = Reading(is_garbled=True)
ERROR_TEXT_LIMIT: Final = 500
"""Characters of a backend's error text that are handed on."""


def json_object(data: bytes) -> dict[str, object] | None:
    """The JSON object in `data`; None for anything else, however broken."""
    try:
        document = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, object]", document) if isinstance(document, dict) else None


def data_of(event: bytes) -> bytes:
    """The `data` of a server-sent event: its lines joined, other fields dropped."""
    lines = (line.rstrip(b"\r") for line in event.split(b"\n"))
    return b"\n".join(line[5:].strip() for line in lines if line.startswith(b"data:"))


def one_line(value: object) -> bytes:
    """Compact JSON: without spaces, on one line."""
    return json.dumps(value, separators=(",", ":")).encode()


def error_text(value: object) -> str:
    """A backend's error in either shape, `"text"` or `{"message": "text"}`, bounded."""
    if isinstance(value, dict):
        value = value.get("message")
    return value[:ERROR_TEXT_LIMIT] if isinstance(value, str) else "backend error"


MOST_TOKENS: Final = 10**9
"""A report of more is not believed: no model reads or writes so many for one request."""


def usage_of(document: object, prompt: str, completion: str) -> Usage | None:
    """Token counts under two names; absent counts as 0, nothing but zeros as no report.

    Older Ollamas leave `prompt_eval_count` out on a full cache hit. Zeros stand where Ollama does
    not know: in every chunk of a completion, and in an answer whose model ended without a word. A
    count beyond `MOST_TOKENS` is no report either.
    """
    if not isinstance(document, dict):
        return None
    counts = [document.get(name) for name in (prompt, completion)]
    known = [count if type(count) is int and count >= 0 else 0 for count in counts]
    return Usage(*known) if any(known) and max(known) <= MOST_TOKENS else None


def whole_answer(body: bytes, usage: Callable[[dict[str, object]], Usage | None]) -> Reading:
    """What a JSON answer means that is complete by being whole; an `error` that is null is none.

    Args:
        body: all of it.
        usage: finds what it cost.

    """
    document = json_object(body)
    if document is None:
        return GARBLED
    cost, error = usage(document), document.get("error")
    if error is not None:
        return Reading(error=error_text(error), usage=cost)
    return Reading(is_last=True, usage=cost)
