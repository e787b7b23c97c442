"""The sinks for finished records: a log line, and the metrics."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final
from zlib import crc32

import attrs

from ollama_gateway.ledger.document import Document, document_of
from ollama_gateway.ledger.record import FAILED, AuditRecord
from ollama_gateway.log import get_logger
from ollama_gateway.metrics import Metrics

EXCHANGE: Final = "exchange"
"""The event of a finished request."""

log = get_logger(EXCHANGE)


def log_record(record: AuditRecord, share: float = 1.0) -> None:
    """Log one line for an exchange: a warning if it failed.

    Args:
        record: the finished record.
        share: of the others, the share that is logged (`log.requests`), by a hash of their ids, so
            that all who know an id know whether its line exists.

    """
    if _has_failed(record):
        log.warning(EXCHANGE, **document_of(record))
    elif share >= 1 or crc32(record.request_id.encode()) < share * 2**32:
        log.info(EXCHANGE, **document_of(record))


def _has_failed(record: AuditRecord) -> bool:
    """Whether the gateway or a backend failed; a limit, a wrong key or a client's end do not."""
    return record.outcome in FAILED or record.status >= HTTPStatus.INTERNAL_SERVER_ERROR


@attrs.frozen
class RecordMetrics:
    """Counts records."""

    metrics: Metrics

    def killed(self, record: Document) -> None:
        """Count a record that was made from the intent of a killed process."""
        model, backend, outcome = record["model"], record["backend"], record["outcome"]
        self.metrics.request(record["endpoint"], model, backend, outcome)
        self.metrics.ended_badly(outcome, record["reason"])

    def __call__(self, record: AuditRecord) -> None:
        """Count one finished record."""
        metrics, endpoint, outcome = self.metrics, record.endpoint, record.outcome
        model, backend = record.model, record.backend
        metrics.request(endpoint, model, backend, outcome)
        metrics.duration(endpoint, outcome, model, backend, record.duration)
        if outcome != "completed":
            metrics.ended_badly(outcome, record.reason)
        if backend is not None:
            self._count_answer(record, backend)
        if record.affinity is not None:
            metrics.affinity(record.affinity)
        for attempt in record.attempts:
            good = "good" if attempt.first_chunk is not None else "cancelled"
            metrics.attempt(attempt.backend, attempt.reason or good)

    def _count_answer(self, record: AuditRecord, backend: str) -> None:
        """Count what a backend has answered; only streams have a first chunk and a speed."""
        metrics, model = self.metrics, record.model
        if model:
            metrics.tokens(
                model, backend, record.prompt_tokens, record.cached_tokens, record.completion_tokens
            )
        if record.ttft is None or not record.chunks:
            return
        metrics.first_chunk(record.endpoint, backend, record.ttft)
        if model and record.outcome == "completed":
            seconds = record.duration - record.ttft
            metrics.speed(model, backend, record.completion_tokens, seconds)
