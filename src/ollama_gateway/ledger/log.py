"""The row as a log line and as figures: the sinks of this version."""

from __future__ import annotations

import attrs

from ollama_gateway.ledger.document import Document, document_of
from ollama_gateway.ledger.record import Row
from ollama_gateway.log import get_logger
from ollama_gateway.metrics import Metrics

log = get_logger("exchange")


def log_row(row: Row) -> None:
    """One line an exchange."""
    log.info("exchange", **document_of(row))


@attrs.frozen
class RowMetrics:
    """Counts rows."""

    metrics: Metrics

    def killed(self, row: Document) -> None:
        """Count a row that was made of what a killed process had left open."""
        self.metrics.request(row["endpoint"], row["model"], row["backend"], row["outcome"])

    def __call__(self, row: Row) -> None:
        """Count one finished row."""
        self.metrics.request(row.endpoint, row.model, row.backend, row.outcome)
        if row.backend is not None and row.ttft is not None:
            self.metrics.first_chunk(row.endpoint, row.backend, row.ttft)
        for attempt in row.attempts:
            good = "good" if attempt.first_chunk is not None else "cancelled"
            self.metrics.attempt(attempt.backend, attempt.reason or good)
