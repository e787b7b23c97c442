"""The headers and errors about limits, and the periods of budgets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from ollama_gateway.limits.calendar import moment, month_of
from ollama_gateway.limits.quota import KeyUsage, LimitName, LimitRefusal, Quota
from ollama_gateway.limits.replies import duration, headers_of, refused

QUOTA = Quota(60, 4, 1000, 5000)
USAGE = KeyUsage(12, 41.2, 3, 400, 4800, 3600.0, 86_400.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0201, "21ms"),
        (1, "1s"),
        (59.2, "1m0s"),
        (360, "6m0s"),
        (3600, "1h0m0s"),
        (86_340, "23h59m0s"),
        (2_678_400, "744h0m0s"),
    ],
)
def test_spans_read_as_openais_do(seconds: float, text: str) -> None:
    """Durations are rounded up, so that no client comes back too early."""
    assert duration(seconds) == text


def test_of_two_budgets_the_tighter_one_is_told() -> None:
    """A client may send what both budgets have room for."""
    headers = dict(headers_of(USAGE.statuses(QUOTA)))

    assert headers == {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"48",
        b"x-ratelimit-reset-requests": b"42s",
        b"x-ratelimit-limit-tokens": b"5000",
        b"x-ratelimit-remaining-tokens": b"200",
        b"x-ratelimit-reset-tokens": b"24h0m0s",
    }


def test_what_is_not_limited_is_not_told() -> None:
    """A key with only a concurrency limit gets no headers: there are none for it."""
    assert headers_of(USAGE.statuses(Quota(concurrent_requests=4))) == []


def test_a_limit_below_what_is_used_has_nothing_left() -> None:
    """The remainder is never below 0."""
    assert USAGE.statuses(Quota(requests_per_minute=3))["rate"].left == 0


@pytest.mark.parametrize(
    ("limit", "reason", "text"),
    [
        ("rate", "rate", "this key's limit of 60 requests a minute is reached"),
        ("concurrency", "concurrency", "this key's limit of 4 requests at once is reached"),
        ("day", "budget", "this key's budget of 1000 tokens a day has no room for this request"),
        (
            "month",
            "budget",
            "this key's budget of 5000 tokens a month has no room for this request",
        ),
    ],
)
def test_a_refusal_names_the_limit(limit: LimitName, reason: str, text: str) -> None:
    """One line names the limit and the wait, beside the reason for the operator."""
    error = refused(LimitRefusal(limit, 0.25, USAGE), QUOTA)

    assert error.message == f"{text}; try again in 250ms"
    assert (error.status, error.reason, error.retry_after) == (429, reason, 1.0)
    assert dict(error.headers)[b"x-ratelimit-limit-requests"] == b"60"


@pytest.mark.parametrize(
    ("now", "day_ends", "month_ends"),
    [
        (datetime(2026, 11, 30, 23, 59, 59, 500_000, UTC), 0.5, 0.5),
        (datetime(2026, 12, 1, tzinfo=UTC), 86_400, 31 * 86_400),
        (datetime(2028, 2, 28, 12, tzinfo=UTC), 43_200, 43_200 + 86_400),
        (datetime(2026, 12, 31, 1, tzinfo=timezone(timedelta(hours=2))), 3600, 86_400 + 3600),
    ],
)
def test_a_moment_knows_its_periods(now: datetime, day_ends: float, month_ends: float) -> None:
    """Days and months are those of UTC, whatever the zone of the clock."""
    found = moment(7.0, now)
    utc = now.astimezone(UTC)

    assert (found.time, found.day_ends, found.month_ends) == (7.0, day_ends, month_ends)
    assert found.day == int(now.timestamp() // 86_400)
    assert found.month == month_of(found.day) == 12 * utc.year + utc.month - 1
