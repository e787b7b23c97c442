"""Every dialect through the gateway and at the backend: they answer alike, and it is metered.

Compared are status, content type, framing, and the body but for what differs by nature. Errors the
gateway words anew even where they are the backend's, since others may have been tried: of those the
charset and the newline at the end are not compared.
"""

from __future__ import annotations

import re
from typing import Final

import pytest

from ollama_gateway.ledger.record import AuditRecord
from ollama_gateway.simulator.exchange import BUFFER
from tests.alike import later, native, openai, rest
from tests.alike.asking import Told, ask_all
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
"""How paths begin, the first that fits counts."""
OWN_IDS: Final = {
    r'"request_id":"[0-9a-f]{32}"': '"request_id":"req_0"',
    r'"rs_resp_\d+"': '"rs-0"',
}
ERRORS: Final = 400
FEWEST: Final = 60

cases = pytest.mark.parametrize(("place", "case"), list(enumerate(CASES)), ids=str)


def told(place: int) -> Told:
    """What became of a request."""
    return ask_all(CASES)[place]


def body(answer: Answer) -> str:
    """The body without what differs by nature."""
    text = masked(answer.body.decode())
    for pattern, fixed in OWN_IDS.items():
        text = re.sub(pattern, fixed, text)
    return text


def media_type(answer: Answer) -> str:
    """The content type without its parameters."""
    return answer.kind.partition(";")[0]


def seen(answer: Answer) -> tuple[object, ...]:
    """What a client has of an answer."""
    if answer.status >= ERRORS:
        return answer.status, media_type(answer), answer.is_complete, body(answer).rstrip("\n")
    return answer.status, answer.kind, answer.is_complete, body(answer), framing(answer)


def framing(answer: Answer) -> str:
    """How the end is told; Ollama does not tell the length of a long object, the gateway may."""
    is_long = len(answer.body) > BUFFER and media_type(answer) == JSON
    return "length" if is_long else answer.framing


@cases
def test_the_backend_answers_as_the_table_says(place: int, case: Case) -> None:
    """Asked itself, Ollama has this status and this kind of an answer."""
    answer = told(place).straight

    assert (answer.status, media_type(answer)) == (case.status, case.kind)


@cases
def test_the_gateway_answers_alike_or_says_why_not(place: int, case: Case) -> None:
    """A client sees the backend's answer, or another one for a reason that stands in the table."""
    both = told(place)
    if case.otherwise is None:
        assert seen(both.through) == seen(both.straight)
        return
    other, answer = case.otherwise, both.through
    assert seen(answer) != seen(both.straight), f"no longer so: {other.why}"
    assert (answer.status, media_type(answer)) == (other.status, other.kind or case.kind)
    assert answer.is_complete is not other.is_cut
    assert other.text in answer.body.decode()


@cases
def test_the_request_is_metered(place: int, case: Case) -> None:
    """Exactly one row says how it ended and what it cost, or none where nothing ran."""
    both = told(place)

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
    """What a row says of the cost."""
    tokens = (record.prompt_tokens, record.completion_tokens, record.tokens_source)
    return Metered(record.outcome, record.reason, *tokens)


def test_the_table_is_as_long_as_it_should_be() -> None:
    """The table is no shorter than was promised, and no request is in it twice."""
    assert len(CASES) >= FEWEST
    assert len({str(case) for case in CASES}) == len(CASES)
