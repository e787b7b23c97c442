"""Records as they are read again: which texts are valid, and which are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.ledger.read.records import read

DAMAGED = (
    b"{",
    b"[]",
    b"\xff",
    b"[" * 100_000,
    b"{}",
    b'{"request_id":"a"}',
    b'{"request_id":"a","started_at":"yesterday"}',
    b'{"request_id":"a","started_at":"2026-01-02T03:04:05"}',
    b'{"request_id":"a","started_at":"0001-01-01T00:00:00+14:00"}',
    *(
        b'{"request_id":"a","started_at":"2026-01-02T03:04:05+00:00",%s}' % field
        for field in (
            b'"model":7',
            b'"status":true',
            b'"status":-1',
            b'"prompt_tokens":1e400',
            b'"prompt_tokens":%d' % 2**63,
            b'"duration_ms":NaN',
            b'"duration_ms":1e400',
            b'"attempts":7',
            b'"attempts":[7]',
            b'"attempts":[{"backend":7}]',
        )
    ),
)


@pytest.mark.parametrize("text", DAMAGED)
def test_a_text_that_this_program_did_not_write_is_refused(text: bytes) -> None:
    """Any defect raises the same kind of error."""
    with pytest.raises(ValueError, match=r".") as error:
        read("journal-0.db", 1, text)

    assert type(error.value).__module__ in {"builtins", "json.decoder"}


@given(st.binary(max_size=60))
def test_no_text_does_more_than_be_refused(text: bytes) -> None:
    """Any bytes are read or refused, without another error."""
    with pytest.raises(ValueError, match=r"."):
        read("journal-0.db", 1, text)


def test_a_record_of_a_later_version_has_what_this_one_does_not_know() -> None:
    """Missing fields are null, and unknown ones are kept."""
    text = b'{"request_id":"a","started_at":"2026-01-02T03:04:05+02:00","colour":"red"}'
    document = read("journal-0.db", 1, text).document

    assert (document["model"], document["attempts"], document["colour"]) == (None, [], "red")
    assert document["started_at"] == "2026-01-02T01:04:05.000000Z"
