"""A record in a few words: for `audit list`, and for the log on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

RUNNING: Final = "running"
"""Shown as the outcome of a request that has none yet."""

Fields = Mapping[str, Any]
"""The fields of a document; only those that are named here are read."""


def outcome_of(fields: Fields) -> str:
    """Return the outcome, and the reason if that says more."""
    outcome, reason = fields["outcome"], fields["reason"]
    if outcome is None:
        return RUNNING
    return str(outcome) if reason in {None, outcome} else f"{outcome}: {reason}"


def tokens_of(fields: Fields) -> str | None:
    """Return the tokens of prompt and answer; `~` marks an estimate."""
    prompt, completion = fields["prompt_tokens"], fields["completion_tokens"]
    if prompt is None and completion is None:
        return None
    mark = "~" if (fields["tokens_source"] or "").endswith("counted") else ""
    return f"{mark}{prompt or 0}+{completion or 0}"


def milliseconds(found: float | None) -> str | None:
    """Return a time in whole milliseconds."""
    return None if found is None else f"{found:,.0f} ms"


def log_line(fields: Fields) -> str:
    """Return a finished request as one line of a log for people, without what there is none of."""
    return "  ".join(_parts(fields))


def _parts(fields: Fields) -> Iterator[str]:
    yield fields["started_at"][11:19] + "Z"
    if fields["level"] != "info":
        yield fields["level"]
    yield from (str(fields[name]) for name in ("key_name", "model", "backend") if fields[name])
    yield outcome_of(fields)
    if first_chunk := milliseconds(fields["ttft_ms"]):
        yield f"first chunk {first_chunk}"
    if tokens := tokens_of(fields):
        yield f"tokens {tokens}"
    if trace := fields.get("trace_id"):
        yield f"trace {trace}"
