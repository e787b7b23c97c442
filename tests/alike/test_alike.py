"""Every dialect answers alike through the gateway and at the backend, and is metered.

The tests compare status, content type, framing, and the body except for values that always differ.
The gateway rewrites errors even if they are the backend's, because it may have tried others; so the
charset and the final newline of errors are not compared.
"""

from __future__ import annotations

import re
from typing import Final

import pytest

from ollama_gateway.ledger.record import AuditRecord
from ollama_gateway.simulator.exchange import BUFFER
from tests.alike import later, native, openai, rest
from tests.alike.asking import BothAnswers, ask_all
from tests.alike.case import JSON, Case, Metered
from tests.simulator.client import Answer
from tests.simulator.recording import masked

CASES: Final = (*native.CASES, *openai.CASES, *later.CASES, *rest.CASES)
DIALECTS: Final = {
    "/v1/messages": "anthropic",
    "/v1/responses": "openai-responses",
    "/v1/": "openai",
    "/": "ollama",
}
"""The first prefix of the path that matches counts."""
OWN_IDS: Final = {
    r'"request_id":"[0-9a-f]{32}"': '"request_id":"req_0"',
    r'"rs_resp_\d+"': '"rs-0"',
}
ERRORS: Final = 400
FEWEST: Final = 60

cases = pytest.mark.parametrize(("index", "case"), list(enumerate(CASES)), ids=str)


def both_answers(index: int) -> BothAnswers:
    """Return the answers to a request."""
    return ask_all(CASES)[index]


def body(answer: Answer) -> str:
    """Return the body without values that always differ."""
    text = masked(answer.body.decode())
    for pattern, fixed in OWN_IDS.items():
        text = re.sub(pattern, fixed, text)
    return text


def media_type(answer: Answer) -> str:
    """Return the content type without its parameters."""
    return answer.kind.partition(";")[0]


def seen(answer: Answer) -> tuple[object, ...]:
    """Return everything that a client sees of an answer."""
    if answer.status >= ERRORS:
        return answer.status, media_type(answer), answer.is_complete, body(answer).rstrip("\n")
    return answer.status, answer.kind, answer.is_complete, body(answer), framing(answer)


def framing(answer: Answer) -> str:
    """Return how the end is marked; the gateway may send a length where Ollama sends none."""
    is_long = len(answer.body) > BUFFER and media_type(answer) == JSON
    return "length" if is_long else answer.framing


@cases
def test_the_backend_answers_as_the_table_says(index: int, case: Case) -> None:
    """Ollama itself answers with this status and media type."""
    answer = both_answers(index).straight

    assert (answer.status, media_type(answer)) == (case.status, case.kind)


@cases
def test_the_gateway_answers_alike_or_says_why_not(index: int, case: Case) -> None:
    """A client gets the backend's answer, or another one for a reason in the table."""
    both = both_answers(index)
    if case.otherwise is None:
        assert seen(both.through) == seen(both.straight)
        return
    other, answer = case.otherwise, both.through
    assert seen(answer) != seen(both.straight), f"no longer so: {other.why}"
    assert (answer.status, media_type(answer)) == (other.status, other.kind or case.kind)
    assert answer.is_complete is not other.is_cut
    assert other.text in answer.body.decode()


@cases
def test_the_request_is_metered(index: int, case: Case) -> None:
    """Exactly one audit record has the outcome and the tokens, or none exists where nothing ran."""
    both = both_answers(index)

    assert [metered(record) for record in both.records] == (
        [] if case.record is None else [case.record]
    )
    for record in both.records:
        route = re.sub(r"(/api/blobs)/.*", r"\1", case.path)
        dialect = next(name for start, name in DIALECTS.items() if route.startswith(start))
        assert (record.endpoint, record.dialect, record.status) == (
            route,
            dialect,
            both.through.status,
        )


def metered(record: AuditRecord) -> Metered:
    """Return the outcome and tokens in an audit record."""
    tokens = (record.prompt_tokens, record.completion_tokens, record.tokens_source)
    return Metered(record.outcome, record.reason, *tokens)


def test_the_table_is_as_long_as_it_should_be() -> None:
    """The table has at least the promised length, and no request is in it twice."""
    assert len(CASES) >= FEWEST
    assert len({str(case) for case in CASES}) == len(CASES)
