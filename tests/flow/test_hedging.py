"""When a hedge is due, and what pays for hedges and retries."""

from __future__ import annotations

import math

import pytest

from ollama_gateway.flow.hedging import (
    DEFAULT_DELAY,
    MAX_TIMED,
    MAX_TIMES,
    MIN_DELAY,
    MIN_TIMES,
    RETRIES_SAVED,
    Hedging,
    RetryBudget,
)


def affordable(hedging: Hedging) -> int:
    """Pay for as many hedges as possible, and return their number."""
    count = 0
    while hedging.pay():
        count += 1
    return count


def test_a_duration_is_the_delay() -> None:
    """A fixed delay does not depend on observed times."""
    hedging = Hedging(0.25, 0.05)
    hedging.observe("m", 9)

    assert hedging.delay("m") == 0.25


def test_off_is_never() -> None:
    """With hedging off, no hedge is ever due."""
    assert Hedging("off", 0.05).delay("m") == math.inf


def test_auto_is_the_95th_percentile_of_the_model() -> None:
    """It is the 95th of a hundred times from 0.01 s to 1 s; another model has its own times."""
    hedging = Hedging("auto", 0.05)
    for hundredth in range(100, 0, -1):
        hedging.observe("m", hundredth / 100)

    assert hedging.delay("m") == 0.95
    assert hedging.delay("other") == DEFAULT_DELAY


def test_auto_needs_enough_to_go_by() -> None:
    """With fewer than 20 times, the delay is 2 s."""
    hedging = Hedging("auto", 0.05)
    for _ in range(MIN_TIMES - 1):
        hedging.observe("m", 0.5)
    assert hedging.delay("m") == DEFAULT_DELAY

    hedging.observe("m", 0.5)

    assert hedging.delay("m") == 0.5


def test_auto_is_bounded_below() -> None:
    """A model that answers in a millisecond is not hedged after two milliseconds."""
    hedging = Hedging("auto", 0.05)
    for _ in range(MIN_TIMES):
        hedging.observe("m", 0.001)

    assert hedging.delay("m") == MIN_DELAY


def test_auto_forgets() -> None:
    """Old times and the oldest models are forgotten."""
    hedging = Hedging("auto", 0.05)
    for _ in range(MAX_TIMES):
        hedging.observe("m", 9)
    for _ in range(MAX_TIMES):
        hedging.observe("m", 1)
    assert hedging.delay("m") == 1

    for number in range(MAX_TIMED):
        hedging.observe(f"m{number}", 1)

    assert hedging.delay("m") == DEFAULT_DELAY


@pytest.mark.parametrize(
    ("ratio", "requests", "hedges"),
    [
        (0.05, 0, 1),  # one at the start
        (0.05, 19, 1),
        (0.05, 20, 2),
        (0.05, 10_000, 2),  # at most 50 x 5 % are saved
        (0.5, 10_000, 25),
        (0.01, 10_000, 1),  # never less than one
        (1, 10_000, 50),
        (0, 10_000, 0),
    ],
)
def test_the_hedge_bucket(ratio: float, requests: int, hedges: int) -> None:
    """Each request adds its share, and a hedge takes 1."""
    hedging = Hedging(2, ratio)
    for _ in range(requests):
        hedging.count_request()

    assert affordable(hedging) == hedges


def test_in_the_long_run_hedges_are_a_share_of_the_requests() -> None:
    """Of 10,000 requests that all want a hedge, the first and then a twentieth get one."""
    hedging = Hedging(2, 0.05)
    paid = 0
    for _ in range(10_000):
        hedging.count_request()
        paid += hedging.pay()

    assert paid == pytest.approx(501, abs=1)


def test_retries_are_ten_a_second_and_a_tenth_of_the_requests() -> None:
    """This holds for 1,000 requests a second that all want a retry, for ten seconds."""
    budget = RetryBudget()
    paid = 0
    for millisecond in range(10_000):
        budget.count_request()
        paid += budget.pay(millisecond / 1000)

    assert paid == pytest.approx(10_000 * 0.1 + 10 * 10 + RETRIES_SAVED, abs=2)


def test_saved_retries_are_those_of_a_second() -> None:
    """After an idle hour there are ten retries, no more."""
    budget = RetryBudget()
    budget.pay(0)

    assert sum(budget.pay(3600) for _ in range(100)) == RETRIES_SAVED
