"""`gatewayctl audit show`, run in this process on real journals."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

from ollama_gateway.ledger.attempted import Attempt
from ollama_gateway.reasons import reason_of
from tests.ledger.audit_logs import began, ended, listed, ran, still_open, written


def test_a_whole_request_is_shown(data_dir: Path) -> None:
    """All fields, each attempt, and the outcome and reason in words are printed."""
    attempts = [
        Attempt("gpu-1", 0.001, reason=reason_of(500), ended=0.003),
        Attempt("gpu-2", 0.004, ended=2.5),
        Attempt("gpu-3", 2.004, is_hedge=True, first_chunk=2.5),
    ]
    tokens: dict[str, Any] = {
        "prompt_tokens": 1100,
        "cached_tokens": 1000,
        "completion_tokens": 3,
        "tokens_source": "reported",
    }
    ends: dict[str, Any] = {
        "client_request_id": "mine-1",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "outcome": "upstream_failed",
        "reason": "idle_timeout",
        "backend": "gpu-3",
    }
    written(data_dir, [ended("abc", took=9.5, attempts=attempts, bytes_in=2048, **tokens, **ends)])

    assert ran("audit", "show", "abc") == (
        """request      abc
client's id  mine-1
trace        4bf92f3577b34da6a3ce929d0e0e4736
key          name (id)
end user     -
client       192.0.2.7
asked        /api/chat (ollama)
model        m1:latest
backend      gpu-3
outcome      upstream_failed: no backend gave a whole answer
reason       idle_timeout: the backend stopped in the middle of its answer (race.idle_timeout)
status       200
tokens       1,100 prompt (1,000 cached), 3 completion, as the backend reported
bytes        2,048 in, 0 out
recorded in  journal-0.db, record 1

2026-01-02T03:04:05.000000Z  the request arrived
                      +1 ms  asked gpu-1
                             gpu-1 failed: status_500: the backend answered with status 500
                      +4 ms  asked gpu-2
                             gpu-2 was cancelled before its first chunk
                  +2,004 ms  asked gpu-3 as a hedge, because the first was slow
                  +2,500 ms  first chunk from gpu-3
                  +9,500 ms  ended: upstream_failed

               0                                             9,500 ms
gpu-1         |-                                                     | failed
gpu-2         |--------------                                        | cancelled
gpu-3 (hedge) |           ---########################################| answered
"""
    )
    assert json.loads(ran("audit", "show", "abc", "--json")) == listed()[0]


def test_a_request_by_an_alias_is_shown(data_dir: Path) -> None:
    """The name that was asked stands beside the model, and each attempt has its model."""
    attempts = [
        Attempt("gpu-1", 0.001, reason=reason_of(500), model="big:70b"),
        Attempt("gpu-1", 0.004, first_chunk=0.5, model="small:8b"),
    ]
    asked: dict[str, Any] = {"model": "small:8b", "alias": "gpt-4o", "backend": "gpu-1"}
    written(data_dir, [ended("abc", attempts=attempts, **asked)])
    shown = ran("audit", "show", "abc")

    assert "model        small:8b (asked for as gpt-4o)\n" in shown
    assert "+1 ms  asked gpu-1 for big:70b\n" in shown
    assert "+4 ms  asked gpu-1 for small:8b\n" in shown


def test_a_request_without_a_known_end_is_shown(data_dir: Path) -> None:
    """A running and a killed request say that their end is not known."""
    with closing(still_open(data_dir, began("r"))):
        running = ran("audit", "show", "r")
    with closing(still_open(data_dir)):
        killed = ran("audit", "show", "r")

    assert "outcome      running: it has not ended" in running
    assert "journal-9.db, open" in running
    assert "outcome      killed: the gateway ended before the request had" in killed
    assert "the gateway was killed" in killed
