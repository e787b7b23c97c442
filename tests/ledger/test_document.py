"""The text of a record, which the hash chain covers: every field, its order and its spelling."""

from __future__ import annotations

import attrs

from ollama_gateway.ledger.attempted import Attempt
from ollama_gateway.ledger.document import document_of, intent_of, killed, to_text
from ollama_gateway.ledger.fields import stored_fields
from ollama_gateway.ledger.postgres import COLUMNS
from ollama_gateway.ledger.read.filtering import Filter
from ollama_gateway.ledger.record import RECORD_FIELDS, AuditRecord
from ollama_gateway.reasons import Reason, reason_of
from tests.ledger.records import record

WHOLE = (
    '{"request_id":"r","started_at":"2026-01-02T03:04:05.000000+00:00","key_id":"id",'
    '"key_name":"n\\u00e4me","end_user":"eve","client":"192.0.2.7","endpoint":"/api/chat",'
    '"dialect":"ollama","model":"m1:latest","alias":"gpt","backend":"b","outcome":"timed_out",'
    '"reason":"idle_timeout","status":504,"prompt_tokens":3,"cached_tokens":2,'
    '"completion_tokens":4,"tokens_source":"reported","spender":"s","affinity":"kept","ttft_ms":250.0,'
    '"duration_ms":1234.6,"bytes_in":5,'
    '"bytes_out":6,"changed":"num_ctx","client_request_id":"mine","trace_id":"4bf9","attempts":['
    '{"backend":"a","started_ms":1.0,"hedge":false,"first_chunk_ms":null,"reason":"status_500",'
    '"model":null,"ended_ms":3.0},{"backend":"b","started_ms":4.0,'
    '"hedge":true,"first_chunk_ms":250.0,"reason":null,"model":"m1:latest","ended_ms":null}]}'
)
KILLED = (
    '{"request_id":"r","started_at":"2026-01-02T03:04:05.000000+00:00","key_id":"id",'
    '"key_name":"name","end_user":null,"client":"192.0.2.7","endpoint":"/api/chat",'
    '"dialect":"ollama","model":"m1:latest","alias":null,"backend":null,"outcome":"killed",'
    '"reason":"killed","status":200,"prompt_tokens":7,"cached_tokens":null,"completion_tokens":5,'
    '"tokens_source":"counted","spender":null,"affinity":null,"ttft_ms":null,"duration_ms":0.0,"bytes_in":0,'
    '"bytes_out":0,"changed":null,"client_request_id":null,"trace_id":null,"attempts":[]}'
)


def whole() -> AuditRecord:
    """Return a record in which every field has a value of its own."""
    return attrs.evolve(
        record("r"),
        key_name="näme",
        end_user="eve",
        alias="gpt",
        affinity="kept",
        backend="b",
        outcome="timed_out",
        reason=Reason.IDLE_TIMEOUT,
        status=504,
        prompt_tokens=3,
        cached_tokens=2,
        completion_tokens=4,
        tokens_source="reported",
        usage_journal="s",
        ttft=0.25,
        duration=1.23456,
        bytes_in=5,
        bytes_out=6,
        changed="num_ctx",
        client_request_id="mine",
        trace_id="4bf9",
        attempts=[
            Attempt("a", 0.001, reason=reason_of(500), ended=0.003),
            Attempt("b", 0.004, is_hedge=True, first_chunk=0.25, model="m1:latest"),
        ],
    )


def test_the_text_of_a_record() -> None:
    """Chains of older versions hold only as long as this text stays the same to the byte."""
    assert to_text(document_of(whole())) == WHOLE


def test_the_text_of_a_killed_record() -> None:
    """It is made of the intent, which has no outcome, and carries what the budget was charged."""
    intent = intent_of(record("r"))

    assert intent["outcome"] is None
    assert to_text(killed(intent, (7, 5))) == KILLED


def test_the_columns_in_postgresql() -> None:
    """They are those of the migrations: the key, the link of the chain, the fields to sum."""
    assert list(COLUMNS.items()) == [
        ("request_id", "text"),
        ("started_at", "timestamptz"),
        ("journal", "text"),
        ("seq", "bigint"),
        ("hash", "bytea"),
        ("document", "text"),
        ("key_id", "text"),
        ("key_name", "text"),
        ("end_user", "text"),
        ("endpoint", "text"),
        ("model", "text"),
        ("backend", "text"),
        ("outcome", "text"),
        ("reason", "text"),
        ("prompt_tokens", "bigint"),
        ("cached_tokens", "bigint"),
        ("completion_tokens", "bigint"),
        ("tokens_source", "text"),
        ("spender", "text"),
        ("kind", "text"),
    ]


def test_what_a_filter_compares_is_a_field() -> None:
    """Each name in `Filter` but the time range, the key and the kind is that of a stored field."""
    names = {field.name for field in attrs.fields(Filter)} - {"time_range", "key", "kind"}

    assert names <= {field.name for field in RECORD_FIELDS}


def test_what_is_not_marked_is_not_stored() -> None:
    """The clocks and counters that a request needs while it runs stay out of the document."""
    held = {field.name for field in attrs.fields(AuditRecord)}
    stored = {field.attribute for field in stored_fields(AuditRecord)}

    running = {"arrived", "chunks", "text", "heard", "is_strict", "is_finalized"}
    running |= {"trace", "admitted", "queued"}
    assert held - stored == running
    assert {field.attribute for field in stored_fields(Attempt)} == {
        *("backend", "started", "is_hedge", "first_chunk", "reason", "model", "ended")
    }
