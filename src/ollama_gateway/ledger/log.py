"""The row as a log line and as figures: the sinks of this version."""

from __future__ import annotations

import attrs

from ollama_gateway.ledger.document import Document, document_of
from ollama_gateway.ledger.record import AuditRecord
from ollama_gateway.log import get_logger
from ollama_gateway.metrics import Metrics

log = get_logger("exchange")


def log_record(record: AuditRecord) -> None:
    """One line an exchange."""
    log.info("exchange", **document_of(record))


@attrs.frozen
class RecordMetrics:
    """Counts rows."""

    metrics: Metrics

    def killed(self, record: Document) -> None:
        """Count a row that was made of what a killed process had left open."""
        self.metrics.request(
            record["endpoint"], record["model"], record["backend"], record["outcome"]
        )

    def __call__(self, record: AuditRecord) -> None:
        """Count one finished row."""
        self.metrics.request(record.endpoint, record.model, record.backend, record.outcome)
        if record.backend is not None and record.ttft is not None:
            self.metrics.first_chunk(record.endpoint, record.backend, record.ttft)
        for attempt in record.attempts:
            good = "good" if attempt.first_chunk is not None else "cancelled"
            self.metrics.attempt(attempt.backend, attempt.reason or good)
