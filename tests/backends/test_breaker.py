"""The breaker as a table of events and states."""

from __future__ import annotations

import pytest

from ollama_gateway.backends.breaker import (
    FAILURES,
    FIRST_WAIT,
    JITTER,
    LONGEST_WAIT,
    Breaker,
)
from ollama_gateway.reasons import Reason


def fail(breaker: Breaker, now: float, times: int = 1) -> list[bool]:
    """Begin and fail attempts, one after the other; return which of them opened the breaker."""
    return [
        breaker.failed(now, Reason.CONNECTION_BROKEN, is_probe=breaker.begin(now))
        for _ in range(times)
    ]


def opened(now: float = 0) -> Breaker:
    """Return a breaker that has just opened."""
    breaker = Breaker(random=lambda: 0)
    fail(breaker, now, FAILURES)
    return breaker


def test_failures_in_a_row_open_it() -> None:
    """The last of these failures opens it, and no earlier one."""
    breaker = Breaker()

    assert fail(breaker, 0, FAILURES) == [False] * (FAILURES - 1) + [True]
    assert (breaker.state(1), breaker.admits(1)) == ("open", False)


def test_a_success_between_them_begins_the_row_anew() -> None:
    """Only failures in a row count."""
    breaker = Breaker()
    for _ in range(3):
        fail(breaker, 0, FAILURES - 1)
        breaker.succeeded()

    assert breaker.state(0) == "closed"


def test_after_the_wait_one_probe_is_admitted() -> None:
    """No second attempt is admitted while the probe runs."""
    breaker = opened()

    assert not breaker.admits(FIRST_WAIT - 0.01)
    assert breaker.state(FIRST_WAIT) == "half-open"
    assert breaker.admits(FIRST_WAIT)
    assert breaker.begin(FIRST_WAIT)
    assert not breaker.admits(FIRST_WAIT)
    assert not breaker.begin(FIRST_WAIT)


def test_a_probe_that_answers_closes_it() -> None:
    """A complete answer resets everything, the length of the wait too."""
    breaker = opened()
    fail(breaker, FIRST_WAIT)
    breaker.begin(100)

    assert breaker.answered()
    assert not breaker.answered()
    assert breaker.state(100) == "closed"
    breaker.succeeded()
    assert fail(breaker, 100, FAILURES) == [False] * (FAILURES - 1) + [True]
    assert breaker.until == 100 + FIRST_WAIT


def test_answers_that_break_off_do_not_close_it_for_long() -> None:
    """A first chunk closes it, and the cut after it opens it again, each time for longer."""
    breaker, now, waits = opened(), 0.0, []
    for _ in range(4):
        assert breaker.until is not None
        waits.append(breaker.until - now)
        now = breaker.until
        is_probe = breaker.begin(now)
        assert breaker.answered()
        assert breaker.failed(now, Reason.CONNECTION_BROKEN, is_probe=is_probe)

    assert waits == [2, 4, 8, 16]


def test_a_probe_that_takes_too_long_gives_way() -> None:
    """A probe may run for half an hour; the next attempt does not wait for its end."""
    breaker = opened()
    breaker.begin(FIRST_WAIT)

    assert not breaker.admits(FIRST_WAIT + LONGEST_WAIT - 1)
    assert breaker.admits(FIRST_WAIT + LONGEST_WAIT)
    assert breaker.begin(FIRST_WAIT + LONGEST_WAIT)


def test_each_probe_that_fails_doubles_the_wait_up_to_a_minute() -> None:
    """The waits are 2, 4, 8, 16, 32, 60 and 60 seconds."""
    breaker, now, waits = opened(), 0.0, []
    for _ in range(7):
        assert breaker.until is not None
        waits.append(breaker.until - now)
        now = breaker.until
        assert fail(breaker, now) == [True]

    assert waits == [2, 4, 8, 16, 32, LONGEST_WAIT, LONGEST_WAIT]


@pytest.mark.parametrize("chance", [0, 0.5, 1])
def test_chance_lengthens_a_wait(chance: float) -> None:
    """Breakers that open together do not probe together."""
    breaker = Breaker(random=lambda: chance)
    fail(breaker, 0, FAILURES)

    assert breaker.until == FIRST_WAIT * (1 + JITTER * chance)


def test_a_probe_that_shows_nothing_is_given_back() -> None:
    """If the probe ends without a result, the next attempt is the probe."""
    breaker = opened()
    breaker.begin(FIRST_WAIT)

    breaker.drop_probe()

    assert breaker.admits(FIRST_WAIT)


def test_attempts_of_before_the_opening_that_fail_change_nothing() -> None:
    """A hundred streams that are cut together lengthen the wait once."""
    breaker = Breaker(random=lambda: 0)
    begun = [breaker.begin(0) for _ in range(100)]

    opened_by = [
        breaker.failed(1, Reason.CONNECTION_BROKEN, is_probe=is_probe) for is_probe in begun
    ]

    assert opened_by.count(True) == 1
    assert breaker.until == 1 + FIRST_WAIT


def test_an_attempt_of_before_the_opening_that_answers_closes_it() -> None:
    """An answer of an attempt that began before the opening closes it."""
    breaker = opened()

    assert breaker.answered()
    assert breaker.state(0) == "closed"


def test_what_begins_while_it_is_open_is_no_probe() -> None:
    """A failure of the last resort does not lengthen the wait."""
    breaker = opened()

    assert fail(breaker, 1) == [False]
    assert breaker.until == FIRST_WAIT
