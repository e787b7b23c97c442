"""The suite that every store of limits passes: each step with its figures."""

from __future__ import annotations

import pytest

from ollama_gateway.limits.quota import (
    Quota,
    Renewal,
    Reservation,
    ReservationRequest,
)
from tests.limits.subject import KEY, START, THIS_MONTH, TODAY, Subject, granted, refused

TWO_HOURS = 7200.0


def request_for(
    name: str, quota: Quota, prompt: int = 0, output: int = 0, min_output: int | None = None
) -> ReservationRequest:
    """Return a request of the one key."""
    return ReservationRequest(
        name, KEY, quota, prompt, output, output if min_output is None else min_output
    )


def test_the_rate_is_a_log_of_a_minute(subject: Subject) -> None:
    """At most N admissions in any 60 s: an admission leaves the window after that time."""
    quota = Quota(requests_per_minute=2)
    subject.reserve(request_for("a", quota))
    subject.sleep(50)
    subject.reserve(request_for("b", quota))
    subject.sleep(5)

    refusal = refused(subject.reserve(request_for("c", quota)))
    assert refusal.limit == "rate"
    assert refusal.retry_after == pytest.approx(5, abs=0.1 + subject.late)
    assert refusal.usage.window_ends == pytest.approx(55, abs=0.1 + subject.late)
    subject.sleep(5.1)
    granted(subject.reserve(request_for("c", quota)))
    refused(subject.reserve(request_for("d", quota)))


def test_a_lowered_rate_waits_for_as_many_as_are_too_many(subject: Subject) -> None:
    """With three in the window and a limit of one, the last of the three has to leave it."""
    for name in "abc":
        granted(subject.reserve(request_for(name, Quota(requests_per_minute=3))))
        subject.sleep(10)

    refusal = refused(subject.reserve(request_for("d", Quota(requests_per_minute=1))))
    assert refusal.retry_after == pytest.approx(50, abs=0.1 + subject.late)


def test_settling_gives_a_place_back_but_not_the_admission(subject: Subject) -> None:
    """Concurrency counts open requests; the rate counts admissions."""
    quota = Quota(requests_per_minute=2, concurrent_requests=1)
    first = granted(subject.reserve(request_for("a", quota)))

    assert refused(subject.reserve(request_for("b", quota))).limit == "concurrency"
    subject.settle(first.reservation, 0)
    granted(subject.reserve(request_for("b", quota)))
    assert refused(subject.reserve(request_for("c", quota))).limit == "rate"


def test_a_refusal_changes_nothing(subject: Subject) -> None:
    """A request that one limit refuses is counted by none."""
    quota = Quota(9, 9, tokens_per_day=100)
    granted(subject.reserve(request_for("a", quota, 60)))
    before = subject.usage(KEY)

    assert refused(subject.reserve(request_for("b", quota, 60))).limit == "day"
    after = subject.usage(KEY)
    assert (after.admissions, after.open, after.day) == (before.admissions, before.open, 60)


@pytest.mark.parametrize(
    ("quota", "limit"),
    [
        (Quota(tokens_per_day=1000), "day"),
        (Quota(tokens_per_month=1000), "month"),
        (Quota(tokens_per_day=1000, tokens_per_month=5000), "day"),
        (Quota(tokens_per_day=5000, tokens_per_month=1000), "month"),
    ],
)
def test_an_answer_shrinks_to_the_room_and_no_further(
    subject: Subject, quota: Quota, limit: str
) -> None:
    """The answer shrinks to the room, down to its smallest size; then a budget refuses it."""
    first = granted(subject.reserve(request_for("a", quota, 300, 400, 256)))
    second = granted(subject.reserve(request_for("b", quota, 40, 4000, 256)))

    assert (first.output, second.output) == (400, 260)
    assert second.reservation == Reservation("b", KEY, 300, TODAY, THIS_MONTH)
    assert subject.usage(KEY).day == subject.usage(KEY).month == 1000
    assert refused(subject.reserve(request_for("c", quota, 1, 0))).limit == limit
    subject.settle(second.reservation, 10)
    assert refused(subject.reserve(request_for("d", quota, 40, 300, 256))).limit == limit
    assert granted(subject.reserve(request_for("e", quota, 30, 300, 256))).output == 260


def test_when_to_come_back_to_a_budget(subject: Subject) -> None:
    """The wait is short if other requests may give tokens back; else the period has to end."""
    quota = Quota(tokens_per_day=1000)
    first = granted(subject.reserve(request_for("a", quota, 900)))

    assert refused(subject.reserve(request_for("b", quota, 200))).retry_after == 1
    subject.settle(first.reservation, 900)
    refusal = refused(subject.reserve(request_for("b", quota, 200)))
    assert refusal.retry_after == pytest.approx(TWO_HOURS, abs=0.1 + subject.late)
    assert refusal.usage.day_ends == refusal.usage.month_ends == refusal.retry_after


def test_a_budget_belongs_to_the_day_of_its_reservation(subject: Subject) -> None:
    """Midnight frees the day's budget, and a late settlement is charged to yesterday."""
    quota = Quota(tokens_per_day=1000, tokens_per_month=1000)
    first = granted(subject.reserve(request_for("a", quota, 900)))
    subject.sleep(TWO_HOURS - 10)
    subject.renew(Renewal(first.reservation, 0))
    subject.sleep(11)
    second = granted(subject.reserve(request_for("b", quota, 900)))

    subject.settle(first.reservation, 700)
    assert (second.reservation.day, second.reservation.month) == (TODAY + 1, THIS_MONTH + 1)
    assert (subject.usage(KEY).day, subject.usage(KEY).month) == (900, 900)
    assert subject.spent(KEY) == {TODAY: 700}


def test_a_report_above_the_reservation_is_charged_whole(subject: Subject) -> None:
    """A request is charged its real use, even above its reservation."""
    quota = Quota(tokens_per_day=1000)
    first = granted(subject.reserve(request_for("a", quota, 100)))
    subject.settle(first.reservation, 1500)

    assert subject.usage(KEY).day == 1500
    assert refused(subject.reserve(request_for("b", quota, 1))).limit == "day"


def test_an_expired_lease_frees_its_place_at_its_last_count(subject: Subject) -> None:
    """Without a renewal for 30 s a reservation holds no place, and has spent its last count."""
    quota = Quota(concurrent_requests=1, tokens_per_day=1000)
    first = granted(subject.reserve(request_for("a", quota, 800)))
    subject.sleep(20)
    subject.renew(Renewal(first.reservation, 50))
    subject.sleep(29)
    refused(subject.reserve(request_for("b", quota, 100)))
    subject.sleep(1.1)

    assert (subject.usage(KEY).open, subject.usage(KEY).day) == (0, 50)
    granted(subject.reserve(request_for("b", quota, 100)))


def test_a_settlement_corrects_what_an_expiry_guessed(subject: Subject) -> None:
    """The real figure replaces the guess after the lease has ended, and only once."""
    first = granted(subject.reserve(request_for("a", Quota(tokens_per_day=1000), 800)))
    subject.renew(Renewal(first.reservation, 50))
    subject.sleep(31)
    subject.usage(KEY)
    subject.settle(first.reservation, 120)
    subject.settle(first.reservation, 120)

    assert subject.usage(KEY).day == 120


def test_a_reservation_comes_back_from_expiry(subject: Subject) -> None:
    """A stream that outlived its lease is open again with its next renewal, after any time."""
    quota = Quota(tokens_per_day=1000)
    first = granted(subject.reserve(request_for("a", quota, 800)))
    subject.renew(Renewal(first.reservation, 50))
    subject.sleep(31)
    assert (subject.usage(KEY).open, subject.usage(KEY).day) == (0, 50)

    for _ in range(150):  # beyond the hour after which an expired reservation is forgotten
        subject.renew(Renewal(first.reservation, 60))
        subject.sleep(29)
    assert (subject.usage(KEY).open, subject.usage(KEY).day) == (1, 800)
    subject.settle(first.reservation, 90)
    assert (subject.usage(KEY).open, subject.usage(KEY).day) == (0, 90)


def test_a_store_that_forgot_is_told(subject: Subject) -> None:
    """A renewal opens an unknown reservation: so a wiped Redis is rebuilt."""
    reservation = Reservation("a", KEY, 500, TODAY, THIS_MONTH)
    subject.renew(Renewal(reservation, 20))

    assert (subject.usage(KEY).open, subject.usage(KEY).day) == (1, 500)
    subject.settle(reservation, 30)
    assert (subject.usage(KEY).open, subject.usage(KEY).day) == (0, 30)


def test_what_was_settled_before_it_was_reserved_stays_out(subject: Subject) -> None:
    """A request that was settled first is never admitted, however late its reservation comes."""
    quota = Quota(1, 1, 1000)
    subject.settle(Reservation("a", KEY, 0, 0, 0), 0)

    assert subject.reserve(request_for("a", quota, 100)) is None
    subject.renew(Renewal(Reservation("a", KEY, 100, TODAY, THIS_MONTH), 5))
    usage = subject.usage(KEY)
    assert (usage.admissions, usage.open, usage.day) == (0, 0, 0)
    subject.sleep(3601)
    granted(subject.reserve(request_for("a", quota, 100)))


def test_keys_do_not_share(subject: Subject) -> None:
    """The use of one key does not count for another."""
    quota = Quota(1, 1, 100, 100)
    granted(subject.reserve(ReservationRequest("a", "one", quota, 100)))

    granted(subject.reserve(ReservationRequest("b", "two", quota, 100)))
    assert subject.usage("three").open == 0


def test_a_key_without_a_budget_counts_no_tokens(subject: Subject) -> None:
    """Tokens are counted only if they are limited."""
    first = granted(subject.reserve(request_for("a", Quota(concurrent_requests=1), 10, 20)))
    subject.settle(first.reservation, 25)

    assert (first.reservation.tokens, first.output) == (0, 20)
    assert subject.usage(KEY).day == 0
    assert subject.spent(KEY) == {}


def test_the_largest_budget_is_counted_to_the_token(subject: Subject) -> None:
    """A budget of a trillion tokens loses no digit."""
    quota = Quota(tokens_per_month=10**12)
    first = granted(subject.reserve(request_for("a", quota, 1, 10**12, 1)))

    assert first.output == 10**12 - 1
    subject.settle(first.reservation, 10**12 - 7)
    assert subject.usage(KEY).month == 10**12 - 7
    assert granted(subject.reserve(request_for("b", quota, 1, 10**12, 1))).output == 6


def test_the_periods_are_those_of_the_calendar(subject: Subject) -> None:
    """The store's day and month are those of Python, over leap years, to 2100."""
    days = [0, 40, 92, 200, 365, 457, 458, 459, 460, 850, 1187, 1188, 1189, 20_000, 26_848, 27_000]
    passed = 0
    for day in days:
        subject.sleep((day - passed) * 86_400.0)
        passed = day
        when = subject.now()
        reservation = granted(
            subject.reserve(request_for(f"r{day}", Quota(tokens_per_day=9), 1))
        ).reservation
        assert reservation.month == 12 * when.year + when.month - 1
        assert reservation.day == (when - START).days + TODAY
