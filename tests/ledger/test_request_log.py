"""The log line of a finished request: which requests have one, and what it holds."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
import structlog

from ollama_gateway import log_output
from ollama_gateway.ledger.log import EXCHANGE, log_record
from ollama_gateway.ledger.record import RECORD_FIELDS, AuditRecord
from ollama_gateway.ledger.summary import log_line
from tests.ledger.records import record
from tests.support.patience import PATIENCE


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Restore the configuration of logging."""
    yield
    structlog.reset_defaults()


def finished(**fields: Any) -> AuditRecord:
    """Return the record of a chat that was answered, or with other values."""
    answered: dict[str, Any] = {
        "status": 200,
        "model": "llama3.2:3b",
        "backend": "gpu-1",
        "ttft": 0.104,
    }
    return attrs.evolve(record("r"), **(answered | fields))


def logged(level: str, style: str, *records: AuditRecord, share: float = 1.0) -> list[str]:
    """Return the lines that a gateway writes for these records."""
    out = io.StringIO()
    writer = log_output.configure(level, style, out, summaries={EXCHANGE: log_line})
    for one in records:
        log_record(one, share)
    writer.drain(PATIENCE)
    return out.getvalue().splitlines()


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (
            {"prompt_tokens": 11, "completion_tokens": 30, "tokens_source": "reported"},
            "03:04:05Z  name  llama3.2:3b  gpu-1  completed  first chunk 104 ms  tokens 11+30",
        ),
        (
            {"backend": None, "ttft": None, "outcome": "refused", "reason": "rate", "status": 429},
            "03:04:05Z  name  llama3.2:3b  refused: rate",
        ),
        (
            {"ttft": None, "outcome": "upstream_failed", "reason": "upstream_failed"},
            "03:04:05Z  warning  name  llama3.2:3b  gpu-1  upstream_failed",
        ),
        (
            {"ttft": None, "key_name": "\x1b[2J"},
            '03:04:05Z  "\\u001b[2J"  llama3.2:3b  gpu-1  completed',
        ),
    ],
)
def test_a_request_is_one_short_line(fields: dict[str, Any], line: str) -> None:
    """As text, a request has only what people look for; as JSON, every field."""
    assert logged("info", "text", finished(**fields)) == [line]
    (whole,) = logged("info", "json", finished(**fields))
    assert {field.name for field in RECORD_FIELDS} <= json.loads(whole).keys()


def test_failed_requests_are_warnings() -> None:
    """A gateway or backend that fails is seen at every level; limits and clients are no failure."""
    failed = [
        *(finished(outcome=outcome) for outcome in ("upstream_failed", "timed_out", "killed")),
        finished(outcome="refused", reason="backends_down", status=503),
    ]
    others = [
        finished(),
        finished(outcome="refused", reason="rate", status=429),
        finished(outcome="client_gone", reason="client_gone"),
    ]

    levels = [json.loads(line)["level"] for line in logged("info", "json", *failed, *others)]
    assert levels == ["warning"] * 4 + ["info"] * 3
    assert len(logged("warning", "json", *failed, *others)) == 4
    assert len(logged("info", "json", *failed, *others, share=0.0)) == 4


def test_a_sample_is_chosen_by_the_id() -> None:
    """The same requests are logged each time, about as many as the share says."""
    records = [attrs.evolve(finished(), request_id=f"{number:032x}") for number in range(2000)]
    once, again = (logged("info", "json", *records, share=0.1) for _ in range(2))

    ids = [[json.loads(line)["request_id"] for line in lines] for lines in (once, again)]
    assert ids[0] == ids[1]
    assert 150 < len(ids[0]) < 250
