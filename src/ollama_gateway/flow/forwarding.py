"""The headers of one attempt: those of the client that pass, and the names of the request."""

from __future__ import annotations

from ollama_gateway.ledger.attempted import Attempt
from ollama_gateway.ledger.record import AuditRecord
from ollama_gateway.wire.headers import Headers


def attempt_headers(passed: Headers, record: AuditRecord, attempt: Attempt) -> Headers:
    """Return the headers for a backend, and give the attempt its span where tracing is on.

    The attempt's span is then the parent of the backend's: with the client's own, the backend's
    spans would stand beside the gateway's. Where tracing is off, the client's own passes.

    Args:
        passed: those of the client's headers that go to a backend.
        record: of the request, whose id goes with each attempt.
        attempt: the attempt.

    """
    name = (b"x-request-id", record.request_id.encode())
    if record.trace is None:
        return [*passed, name]
    from ollama_gateway.tracing.context import (  # noqa: PLC0415 - only where tracing is on
        new_span_id,
        without_trace,
    )

    attempt.span_id = new_span_id()
    return [*without_trace(passed), name, *record.trace.headers(attempt.span_id)]
