"""What the prompts that a replica has read show of its speed and its prefix cache."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.backends.prefill import (
    ASSUMED_SECONDS_PER_TOKEN,
    MAX_CAPACITY,
    SLOWEST,
    Prefill,
)


def test_a_reported_duration_gives_the_speed() -> None:
    """The median of the reported speeds counts, so that one odd report decides nothing."""
    prefill = Prefill()
    for tokens, seconds in ((1000, 1.0), (4000, 8.0), (2000, 1999.0)):
        prefill.reported(tokens, seconds)

    assert prefill.seconds(500) == 1.0


def test_without_reports_the_least_times_count() -> None:
    """Times to the first chunk hold queues and loads; the second least is the measure."""
    prefill = Prefill()
    for seconds in (30.0, 1.1, 12.0, 0.3, 1.0):
        prefill.timed(1000, seconds)

    assert prefill.seconds(1000) == 1.0


def test_a_report_replaces_measured_times() -> None:
    """Once a duration is reported, times to the first chunk do not count any more."""
    prefill = Prefill()
    prefill.timed(1000, 9.0)
    prefill.reported(1000, 2.0)
    prefill.timed(1000, 0.1)

    assert prefill.seconds(1000) == 2.0


def test_before_any_measurement_a_speed_is_assumed_or_none() -> None:
    """A wait is weighed with an assumed speed; a hedge is not held back by one."""
    prefill = Prefill()

    assert prefill.seconds(1000) == 1000 * ASSUMED_SECONDS_PER_TOKEN
    assert prefill.known_seconds(1000) == 0


@given(
    reports=st.lists(
        st.tuples(st.integers(-(10**12), 10**12), st.floats(allow_nan=True, allow_infinity=True))
    )
)
def test_absurd_figures_give_no_absurd_speed(reports: list[tuple[int, float]]) -> None:
    """Whatever a backend reports, a token takes from 0 to one second."""
    prefill = Prefill()
    for tokens, seconds in reports:
        prefill.reported(tokens, seconds)
        prefill.timed(tokens, seconds)
        prefill.counted(tokens, int(1e6))

    assert 0 <= prefill.seconds(1) <= SLOWEST
    assert math.isfinite(prefill.tokens(10**6))


@pytest.mark.parametrize(
    ("visits", "capacity"),
    [
        ([], 8),
        # found after 11 others: there is room for 12
        ([(11, 4000, 4000)], 12),
        # found after few others: that shows nothing
        ([(2, 4000, 4000)], 8),
        # not found after 4 others: a quarter of the way to 4
        ([(4, 4000, 0)], 7),
        # not found again and again
        ([(4, 4000, 0)] * 30, 4),
        # the last one to use it, and yet not found: its head has changed, or others use it too
        ([(0, 4000, 0)], 8),
        # not found after more others than there is room for: as expected
        ([(20, 4000, 0)], 8),
        # a short prompt shows nothing
        ([(4, 100, 0)], 8),
        # no count is believed beyond any cache
        ([(10**6, 4000, 4000)], MAX_CAPACITY),
    ],
)
def test_cached_counts_show_how_many_conversations_are_kept(
    visits: list[tuple[int, int, int]], capacity: int
) -> None:
    """A conversation that comes back is found cached only if the cache keeps that many."""
    prefill = Prefill()
    for others, expected, cached in visits:
        prefill.came_back(others, expected, cached, assumed=8)

    assert prefill.capacity(8) == capacity


def test_the_tokens_of_a_request_are_learned_from_its_bytes() -> None:
    """Four bytes are a token until the backend's counts show another share."""
    prefill = Prefill()
    first = prefill.tokens(60_000)
    for _ in range(30):
        prefill.counted(60_000, 10_000)

    assert first == 15_000
    assert 9_990 < prefill.tokens(60_000) < 10_010
