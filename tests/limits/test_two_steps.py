"""A reservation in two steps: the places before the body, the tokens after it."""

from __future__ import annotations

import attrs
import pytest

from ollama_gateway.limits.quota import (
    LimitRefusal,
    Quota,
    Renewal,
    Reservation,
    ReservationRequest,
)
from tests.limits.subject import KEY, THIS_MONTH, TODAY, Subject, granted, refused

BOTH = Quota(2, 1, 1000, 1000)


def places(name: str, quota: Quota = BOTH) -> ReservationRequest:
    """Return the first step."""
    return ReservationRequest(name, KEY, quota, min_output=1)


def tokens(
    name: str, prompt: int = 300, output: int = 400, min_output: int = 256, quota: Quota = BOTH
) -> ReservationRequest:
    """Return the second step."""
    return ReservationRequest(name, KEY, quota, prompt, output, min_output, has_places=True)


def test_the_places_come_first_and_the_tokens_after(subject: Subject) -> None:
    """The first step holds rate and concurrency and no tokens; the second changes neither."""
    first = granted(subject.reserve(places("a")))
    assert first.reservation == Reservation("a", KEY, 0, TODAY, THIS_MONTH)
    assert (first.usage.admissions, first.usage.open, first.usage.day) == (1, 1, 0)
    refusal = refused(subject.reserve(places("b")))
    assert refusal.limit == "concurrency"

    second = granted(subject.reserve(tokens("a")))
    assert second.reservation == Reservation("a", KEY, 700, TODAY, THIS_MONTH)
    assert second.output == 400
    assert (second.usage.admissions, second.usage.open, second.usage.day) == (1, 1, 700)
    usage = subject.usage(KEY)
    assert (usage.admissions, usage.open, usage.day, usage.month) == (1, 1, 700, 700)
    subject.settle(second.reservation, 40)
    usage = subject.usage(KEY)
    assert (usage.admissions, usage.open, usage.day, usage.month) == (1, 0, 40, 40)


def test_a_spent_budget_refuses_the_first_step(subject: Subject) -> None:
    """With no token left the body is not read; with one left it must be."""
    full = granted(subject.reserve(ReservationRequest("a", KEY, Quota(tokens_per_day=1000), 999)))
    granted(subject.reserve(places("b", Quota(tokens_per_day=1000))))
    subject.settle(full.reservation, 1000)
    refusal = subject.reserve(places("c", Quota(tokens_per_day=1000)))

    assert isinstance(refusal, LimitRefusal)
    assert refusal.limit == "day"
    assert refusal.retry_after > 60


def test_what_ends_between_the_steps_keeps_its_admission_alone(subject: Subject) -> None:
    """Settled at no tokens it gives its place back, and no tokens can be added any more."""
    first = granted(subject.reserve(places("a")))
    subject.settle(first.reservation, 0)
    usage = subject.usage(KEY)

    assert (usage.admissions, usage.open, usage.day) == (1, 0, 0)
    assert subject.reserve(tokens("a")) is None
    assert subject.usage(KEY).open == 0


def test_tokens_without_places_are_not_added(subject: Subject) -> None:
    """A second step without a first one reserves nothing."""
    assert subject.reserve(tokens("a")) is None
    usage = subject.usage(KEY)
    assert (usage.admissions, usage.open, usage.day) == (0, 0, 0)


def test_the_second_step_is_made_once(subject: Subject) -> None:
    """Repeated with any figures, it gets the same answer and reserves no more."""
    subject.reserve(places("a"))
    granted(subject.reserve(tokens("a")))
    again = granted(subject.reserve(tokens("a", 1, 1, 1)))
    first_again = granted(subject.reserve(places("a")))

    assert again.reservation.tokens == first_again.reservation.tokens == 700
    assert (subject.usage(KEY).admissions, subject.usage(KEY).day) == (1, 700)


@pytest.mark.parametrize(("taken", "output"), [(400, 300), (444, 256), (445, None)])
def test_the_second_step_shrinks_to_the_room_and_no_further(
    subject: Subject, taken: int, output: int | None
) -> None:
    """The answer shrinks as in one step; if it is refused, the places stay held."""
    budget = Quota(tokens_per_day=1000)
    subject.reserve(ReservationRequest("other", KEY, budget, taken))
    first = granted(subject.reserve(places("a", budget)))
    outcome = subject.reserve(tokens("a", quota=budget))

    if output is None:
        assert isinstance(outcome, LimitRefusal)
        assert (outcome.limit, outcome.retry_after) == ("day", 1)
        assert (subject.usage(KEY).open, subject.usage(KEY).day) == (2, taken)
        subject.settle(first.reservation, 0)
        assert (subject.usage(KEY).open, subject.usage(KEY).day) == (1, taken)
    else:
        assert granted(outcome).output == output
        assert subject.usage(KEY).day == taken + 300 + output


def test_tokens_belong_to_the_day_on_which_they_were_added(subject: Subject) -> None:
    """A body that arrives over midnight is charged to the new day."""
    first = granted(subject.reserve(places("a")))
    for _ in range(300):
        subject.sleep(24.3)
        subject.renew(Renewal(first.reservation, 0))
    second = granted(subject.reserve(tokens("a")))

    assert (second.reservation.day, second.reservation.month) == (TODAY + 1, THIS_MONTH + 1)
    subject.settle(second.reservation, 40)
    assert subject.spent(KEY) == {TODAY + 1: 40}


def test_a_lease_that_ended_opens_again_for_its_tokens(subject: Subject) -> None:
    """A gateway that was stopped for a minute goes on with the body that it has read."""
    subject.reserve(places("a"))
    subject.sleep(31)
    assert subject.usage(KEY).open == 0
    granted(subject.reserve(tokens("a")))

    assert (subject.usage(KEY).open, subject.usage(KEY).day) == (1, 700)


@pytest.mark.parametrize("is_over", [False, True], ids=["open", "expired"])
def test_a_renewal_from_before_takes_no_tokens_away(subject: Subject, *, is_over: bool) -> None:
    """A renewal that was composed between the steps and comes after them changes no figure."""
    first = granted(subject.reserve(places("a")))
    second = granted(subject.reserve(tokens("a")))
    if is_over:
        subject.sleep(31)
        assert (subject.usage(KEY).open, subject.usage(KEY).day) == (0, 0)
    subject.renew(Renewal(first.reservation, 0))

    assert (subject.usage(KEY).open, subject.usage(KEY).day) == (1, 700)
    subject.settle(second.reservation, 40)
    assert (subject.usage(KEY).open, subject.usage(KEY).day) == (0, 40)


def test_a_store_that_knows_the_first_step_alone_is_told(subject: Subject) -> None:
    """A renewal brings the tokens to a store that came back with a state from before them."""
    first = granted(subject.reserve(places("a")))
    subject.renew(Renewal(attrs.evolve(first.reservation, tokens=700), 20))

    assert (subject.usage(KEY).open, subject.usage(KEY).day) == (1, 700)
    subject.settle(first.reservation, 40)
    assert subject.usage(KEY).day == 40
