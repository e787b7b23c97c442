"""Sums over records, as plain functions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.ledger.document import Document
from ollama_gateway.ledger.read.grouping import group_of
from ollama_gateway.ledger.read.usage import COUNTS, WAYS, By, UsageSums, dimensions_of, total
from ollama_gateway.ledger.read.usage import usage as usage_of

OUTCOMES = (
    *("completed", "refused", "client_gone", "cancelled"),
    *("upstream_failed", "timed_out", "killed"),
)


def document(**fields: Any) -> Document:
    """Return a completed request, with these values changed."""
    return {
        "started_at": "2026-01-02T03:04:05.000000Z",
        "key_id": "k1",
        "key_name": "alice",
        "end_user": None,
        "model": "m1:latest",
        "backend": "a",
        "outcome": "completed",
        "prompt_tokens": 10,
        "cached_tokens": None,
        "completion_tokens": 5,
        "tokens_source": "reported",
        **fields,
    }


def usage(documents: list[Document], *ways: By) -> list[UsageSums]:
    """Return the usage of some requests."""
    return usage_of((group_of(one, dimensions_of(ways)) for one in documents), ways)


documents = st.lists(
    st.builds(
        lambda key, model, outcome, day, prompt, cached, completion, source: document(
            key_id=key,
            key_name=key,
            model=model,
            outcome=outcome,
            started_at=f"2026-01-{day:02}T00:00:00.000000Z",
            prompt_tokens=prompt,
            cached_tokens=cached,
            completion_tokens=completion,
            tokens_source=source,
        ),
        st.sampled_from(["k1", "k2", "k3"]),
        st.sampled_from([None, "m1", "m2"]),
        st.sampled_from(OUTCOMES),
        st.integers(1, 28),
        st.none() | st.integers(0, 100),
        st.none() | st.integers(0, 100),
        st.none() | st.integers(0, 100),
        st.sampled_from([None, "reported", "counted"]),
    )
)


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("key", ["k2", "k1"]),
        ("end-user", [None, "eve"]),
        ("model", ["m1:latest", "m2:latest"]),
        ("backend", ["a", "b"]),
        ("day", ["2026-01-01", "2026-01-02"]),
        ("month", ["2026-01"]),
        ("outcome", ["completed", "refused"]),
    ],
)
def test_records_are_grouped(by: By, names: list[str | None]) -> None:
    """The most tokens come first; days come in order."""
    records = [
        document(),
        document(key_id="k2", prompt_tokens=100),
        document(started_at="2026-01-01T23:59:59.000000Z", prompt_tokens=0),
        document(model="m2:latest", prompt_tokens=0),
        document(backend="b", prompt_tokens=0),
        document(outcome="refused", prompt_tokens=None, completion_tokens=None),
        document(end_user="eve", prompt_tokens=1),
    ]

    assert [one.names[0] for one in usage(records, by)] == names


def test_records_are_grouped_by_two_ways() -> None:
    """The first way decides the order, and each group of it is ordered by the second."""
    records = [
        document(key_id="k2", started_at="2026-01-03T00:00:00.000000Z", prompt_tokens=1000),
        document(key_id="k2", started_at="2025-12-31T00:00:00.000000Z", prompt_tokens=1),
        document(started_at="2026-01-02T00:00:00.000000Z", prompt_tokens=500),
        document(started_at="2026-01-01T00:00:00.000000Z", prompt_tokens=500),
        document(started_at="2026-01-01T01:00:00.000000Z", prompt_tokens=500),
    ]

    assert [one.names for one in usage(records, "key", "month")] == [
        ("k1", "2026-01"),
        ("k2", "2025-12"),
        ("k2", "2026-01"),
    ]
    assert [one.names for one in usage(records, "day", "key")][:2] == [
        ("2025-12-31", "k2"),
        ("2026-01-01", "k1"),
    ]
    assert [one.requests for one in usage(records, "key", "day")] == [2, 1, 1, 1]


def test_what_is_counted() -> None:
    """Refusals, failures, tokens and estimated tokens are counted."""
    records = [document(outcome=outcome) for outcome in OUTCOMES]
    records.append(document(tokens_source="counted", prompt_tokens=1, completion_tokens=None))

    [one] = usage(records, "key")

    assert one == UsageSums(("k1",), ("alice",), 8, 1, 3, 71, 35, 1)
    assert one.total_tokens == 106


def test_the_cached_share_is_of_the_prompts_that_tell_it() -> None:
    """A prompt without a cached count makes the share neither smaller nor larger."""
    told = [document(cached_tokens=9), document(cached_tokens=0)]
    untold = [document(prompt_tokens=1000), document(prompt_tokens=None, cached_tokens=7)]

    [one] = usage(told + untold, "key")
    [unknown] = usage(untold, "key")

    assert (one.cached_tokens, one.cached_of_tokens, one.cached_share) == (9, 20, 0.45)
    assert unknown.cached_share is None


def test_a_key_has_the_name_it_had_last() -> None:
    """Groups go by the id, and show the name of the latest request."""
    late = document(key_name="bob", started_at="2026-01-02T03:04:05.000001Z")
    [one] = usage([late, document()], "key")

    assert (one.names, one.labels) == (("k1",), ("bob",))


@given(documents)
def test_every_way_to_group_sums_up_to_the_same(records: list[Document]) -> None:
    """No record is counted twice or left out."""
    wholes = [total(usage(records, by)) for by in WAYS]

    assert all(whole == wholes[0] for whole in wholes)
    assert wholes[0].requests == len(records)
    assert wholes[0].counted_tokens <= wholes[0].total_tokens
    assert wholes[0].cached_tokens <= wholes[0].cached_of_tokens <= wholes[0].prompt_tokens


@given(documents, st.randoms(use_true_random=False))
def test_the_order_of_the_records_does_not_matter(records: list[Document], random: Any) -> None:
    """Sums do not depend on the order."""
    mixed = random.sample(records, len(records))

    for by in WAYS:
        assert _figures(usage(mixed, by)) == _figures(usage(records, by))


def _figures(found: list[UsageSums]) -> dict[tuple[str | None, ...], list[int]]:
    return {one.names: [getattr(one, count) for count in COUNTS] for one in found}
