"""The sinks for finished records: a log line, and the metrics."""

from __future__ import annotations

import attrs

from ollama_gateway.ledger.document import Document, document_of
from ollama_gateway.ledger.record import AuditRecord
from ollama_gateway.log import get_logger
from ollama_gateway.metrics import Metrics

log = get_logger("exchange")


def log_record(record: AuditRecord) -> None:
    """Log one line for an exchange."""
    log.info("exchange", **document_of(record))


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
        for attempt in record.attempts:
            good = "good" if attempt.first_chunk is not None else "cancelled"
            self.metrics.attempt(attempt.backend, attempt.reason or good)
