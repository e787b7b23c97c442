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
        self.metrics.request(
            record["endpoint"], record["model"], record["backend"], record["outcome"]
        )

    def __call__(self, record: AuditRecord) -> None:
        """Count one finished record."""
        self.metrics.request(record.endpoint, record.model, record.backend, record.outcome)
        if record.backend is not None and record.ttft is not None:
            self.metrics.first_chunk(record.endpoint, record.backend, record.ttft)
        if record.backend and record.model and record.prompt_tokens:
            self.metrics.prompt(
                record.model, record.backend, record.prompt_tokens, record.cached_tokens
            )
        if record.affinity is not None:
            self.metrics.affinity(record.affinity)
        for attempt in record.attempts:
            good = "good" if attempt.first_chunk is not None else "cancelled"
            self.metrics.attempt(attempt.backend, attempt.reason or good)
