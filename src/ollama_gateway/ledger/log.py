"""The row as a log line and as figures: the sinks of this version."""

from __future__ import annotations

import attrs

from ollama_gateway.ledger.record import Row
from ollama_gateway.log import get_logger
from ollama_gateway.metrics import Metrics

log = get_logger("exchange")


def log_row(row: Row) -> None:
    """One line an exchange."""
    log.info(
        "exchange",
        request_id=row.request_id,
        key_id=row.key_id,
        key_name=row.key_name,
        client=row.client,
        endpoint=row.endpoint,
        model=row.model,
        backend=row.backend,
        outcome=row.outcome,
        reason=row.reason,
        status=row.status,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        tokens_source=row.tokens_source,
        ttft_ms=_milliseconds(row.ttft),
        duration_ms=_milliseconds(row.duration),
        bytes_in=row.bytes_in,
        bytes_out=row.bytes_out,
        attempts=[
            {
                "backend": attempt.backend,
                "started_ms": _milliseconds(attempt.started),
                "hedge": attempt.is_hedge,
                "first_chunk_ms": _milliseconds(attempt.first_chunk),
                "reason": attempt.reason,
            }
            for attempt in row.attempts
        ],
    )


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


@attrs.frozen
class RowMetrics:
    """Counts rows."""

    metrics: Metrics

    def __call__(self, row: Row) -> None:
        """Count one finished row."""
        self.metrics.request(row.endpoint, row.model, row.backend, row.outcome)
        if row.backend is not None and row.ttft is not None:
            self.metrics.first_chunk(row.endpoint, row.backend, row.ttft)
        for attempt in row.attempts:
            good = "good" if attempt.first_chunk is not None else "cancelled"
            self.metrics.attempt(attempt.backend, attempt.reason or good)
