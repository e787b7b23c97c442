"""When a clock is trusted to expire records, and which ones expire."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ollama_gateway.ledger.chain import Link
from ollama_gateway.ledger.retention import CONFIRMED, DAY, JUMP, began_of, last_past
from tests.ledger.clocks import KEEP, NOW, Time, days_ago, entries
from tests.ledger.records import ids, journal, stored

CONFIRMED_NOT = "the clock is not confirmed yet"
JUMPED = "the clock has jumped"
DISAGREE = "the clock and the database's disagree"
FUTURE = "the last record is from the future"


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([days_ago(0.01)], None),
        ([days_ago(0.9), days_ago(500)], None),
        ([days_ago(0.1), days_ago(-3650), days_ago(40)], None),
        ([days_ago(1.1)], CONFIRMED_NOT),
        ([days_ago(500)], CONFIRMED_NOT),
        ([], CONFIRMED_NOT),
        ([days_ago(-3650), days_ago(0.1)], None),
        ([days_ago(-3650), days_ago(500)], CONFIRMED_NOT),
        ([days_ago(-3650)], CONFIRMED_NOT),
    ],
)
def test_records_from_before_confirm_a_clock(records: Sequence[float], said: str | None) -> None:
    """The last record that is not from the future confirms it if less than a day old."""
    clocks = Time().clocks
    clocks.confirm(records)

    assert clocks.why_not(days_ago(0)) == said


def test_a_new_record_confirms_nothing_and_time_does() -> None:
    """A new record has the same clock, right or wrong; six hours without a doubt are enough."""
    time = Time()
    clocks = time.clocks
    clocks.confirm([days_ago(500)])
    time.pass_(CONFIRMED - 1)
    assert clocks.why_not(time.wall) == CONFIRMED_NOT
    time.pass_(1)
    assert clocks.why_not(time.wall) is None


@pytest.mark.parametrize("seconds", [500 * DAY, -500 * DAY, 2 * JUMP, -2 * JUMP])
def test_a_clock_that_jumps_is_not_trusted_for_six_hours(seconds: float) -> None:
    """That holds in both directions, even if it jumps back; the sleep of a machine is no jump."""
    time = Time()
    clocks = time.clocks
    clocks.confirm([days_ago(0)])
    time.pass_(90 * DAY)
    assert clocks.why_not(time.wall - 80 * DAY) is None  # no request since
    time.wall += seconds
    assert clocks.why_not(days_ago(0)) == JUMPED
    time.pass_(CONFIRMED / 2)
    time.wall -= seconds
    assert clocks.why_not(days_ago(0)) == JUMPED
    time.pass_(CONFIRMED - 1)
    assert clocks.why_not(time.wall) == JUMPED
    time.pass_(1)
    assert clocks.why_not(time.wall) is None


@pytest.mark.parametrize("days", [1.1, 500, -1.1, -500])
def test_a_clock_that_differs_from_the_database_is_not_trusted(days: float) -> None:
    """It is not trusted while they differ by more than a day, and for six hours after."""
    time = Time()
    clocks = time.clocks
    clocks.confirm([days_ago(0)])
    assert clocks.why_not(time.wall, time.wall - 0.9 * DAY) is None
    for _ in range(3):
        time.pass_(CONFIRMED)
        assert clocks.why_not(time.wall, time.wall + days * DAY) == DISAGREE
    time.pass_(CONFIRMED - 1)
    assert clocks.why_not(time.wall, time.wall) == DISAGREE
    time.pass_(1)
    assert clocks.why_not(time.wall, time.wall) is None


def test_a_record_from_the_future_delays_dropping_at_most_six_hours() -> None:
    """It stops dropping until another record is the last, or for six hours."""
    time = Time()
    clocks = time.clocks
    clocks.confirm([days_ago(0)])
    assert clocks.why_not(days_ago(-3650)) == FUTURE
    assert clocks.why_not(days_ago(0)) is None
    assert clocks.why_not(days_ago(-3650)) == FUTURE
    time.pass_(CONFIRMED)
    assert clocks.why_not(days_ago(-3650)) is None
    assert clocks.why_not(days_ago(-3651)) == FUTURE


def link(number: int, days: float | str) -> Link:
    """Return a record that began that many days ago, or that has another text."""
    when = datetime.fromtimestamp(days_ago(days), UTC) if isinstance(days, float | int) else None
    document = f'{{"started_at":"{when.isoformat()}"}}' if when else str(days)
    return Link(number, f"r{number}", document, b"")


@pytest.mark.parametrize(
    ("days", "most", "last"),
    [
        ([], 9, None),
        ([1, 1], 9, None),
        ([40, 35, 31, 29, 40], 9, 3),
        ([40] * 20, 9, 9),
        ([-3650, 40, 40, 1], 9, 3),
        ([-3650] * 20 + [40], 9, 9),
        ([-3650] * 20 + [1], 9, None),
        ([-3650] * 20, 9, None),
        ([40, "no JSON", 40, "[]", '{"started_at":7}', 1], 9, 3),
        (["", '{"started_at":"0001-01-01"}', 40, 1], 9, 3),
        ([1, 40], 9, None),
    ],
)
def test_which_records_are_expired(
    days: Sequence[float | str], most: int, last: int | None
) -> None:
    """Records expire up to the first young one; those without a credible date with the next."""
    records = [link(number, one) for number, one in enumerate(days, 1)]
    found = last_past(records, NOW - KEEP, most, NOW)

    assert (found and found.seq) == last


def test_a_document_without_a_moment() -> None:
    """A damaged document has no moment, whatever it holds."""
    for text in ("", "null", "[" * 10**5, '{"started_at":null}', '{"started_at":"9999-99"}'):
        assert began_of(text) is None


def test_a_record_from_the_future_in_front_goes_with_the_old_ones(tmp_path: Path) -> None:
    """A clock that was wrong for one request keeps no old records; the chain holds."""
    path = tmp_path / "journal-0.db"
    with closing(journal(path)) as opened:
        opened.commit([*entries("f", 1, -3650), *entries("old", 5, 40), *entries("new", 2, 1)])
        assert opened.trim(NOW - KEEP, NOW) == 6

    assert ids(path) == ["new0", "new1"]
    assert stored(path)[0].seq == 7
