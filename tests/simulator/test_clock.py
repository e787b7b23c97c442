"""Dates and durations as Go writes them."""

from __future__ import annotations

import math

import pytest

from ollama_gateway.simulator.clock import keep_alive, nanoseconds, now, rfc3339


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_500_000_000, "1970-01-01T00:00:01.5Z"),
        (1_000_000_001, "1970-01-01T00:00:01.000000001Z"),
    ],
)
def test_a_date_drops_its_trailing_zeros(ns: int, text: str) -> None:
    """The fraction loses its trailing zeros."""
    assert rfc3339(ns) == text


def test_for_ever_is_a_date_too() -> None:
    """A model that never expires has a date some centuries ahead."""
    assert now(math.inf) > "2300"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (30, 30),
        (0, 0),
        ("0", 0),
        ("0s", 0),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5s", 1.5),
        ("250ms", 0.25),
        ("+1s", 1),
        (-1, math.inf),
        ("-1m", math.inf),
    ],
)
def test_a_keep_alive_is_a_number_or_a_duration(value: object, seconds: float) -> None:
    """Numbers are seconds, strings are Go's durations, and negative values mean for ever."""
    assert keep_alive(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("10", 'time: missing unit in duration "10"'),
        ("xyz", 'time: invalid duration "xyz"'),
        ("", 'time: invalid duration ""'),
        ("1sx", 'time: unknown unit "sx" in duration "1sx"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("1h9", 'time: missing unit in duration "1h9"'),
        ("9999999h", 'time: invalid duration "9999999h"'),
        ("-", 'time: invalid duration "-"'),
    ],
)
def test_a_bad_keep_alive_has_the_words_of_go(value: str, message: str) -> None:
    """A text that is no duration is refused as Go refuses it."""
    with pytest.raises(ValueError, match="time: ") as caught:
        keep_alive(value)

    assert str(caught.value) == message


def test_a_duration_is_never_nothing() -> None:
    """A time too short to measure is still reported, since 0 would be left out."""
    assert nanoseconds(0) == 1000
    assert nanoseconds(1.5) == 1_500_000_000
