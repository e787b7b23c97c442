"""The days that a usage journal keeps and drops, whatever the wall clock says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import structlog.testing
import trio.testing

from ollama_gateway.limits.calendar import first_day_kept
from ollama_gateway.limits.charges import OpenRequest
from ollama_gateway.limits.usage_file import DROPPED_AT_ONCE, UsageFile
from ollama_gateway.limits.usage_journal import UsageJournal, open_usage_journal
from ollama_gateway.storage.batcher import in_place, in_thread
from tests.limits.spent import DECEMBER, MONTH, NOVEMBER, TODAY, in_file, now

JANUARY = 20_454
"""2026-01-01."""
IN_2036 = 24_000
KEYS = 25


def spend(usage_journal: UsageJournal, key: str, day: int, tokens: int = 1) -> None:
    """A request of that day."""
    usage_journal.begin(f"{key} {day}", key, day, 5)
    usage_journal.end(f"{key} {day}", tokens)


@pytest.mark.parametrize(
    ("days", "first"),
    [
        ([], 0),
        ([TODAY], JANUARY),
        ([NOVEMBER, DECEMBER, TODAY], DECEMBER),
        ([NOVEMBER - 365, NOVEMBER, TODAY], 20_393),
        ([NOVEMBER, DECEMBER, TODAY, IN_2036], DECEMBER),
        ([IN_2036], 0),
    ],
)
def test_the_last_two_months_of_use_are_kept(days: list[int], first: int) -> None:
    """They are kept however old; days that are in the future by the clock do not count."""
    assert first_day_kept(set(days), MONTH) == first


def test_a_clock_that_runs_ahead_makes_nothing_old() -> None:
    """Neither at a start, nor when usage is charged by it."""
    days = {NOVEMBER, DECEMBER, TODAY}

    assert first_day_kept(days, MONTH + 120) == DECEMBER
    assert first_day_kept({*days, IN_2036}, MONTH + 120) == JANUARY


async def test_years_of_one_process_take_no_more_than_two_months(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Memory and the file drop older days, a thousand rows at a time."""
    forgotten: list[int] = []
    forget = UsageFile.forget

    def noted(self: UsageFile, before: int) -> bool:
        is_more = forget(self, before)
        forgotten.append(is_more)
        return is_more

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UsageFile, "forget", noted)
        async with open_usage_journal(tmp_path, runner=in_place, now=now) as usage_journal:
            for day in range(TODAY - 400, TODAY + 1):
                for key in range(KEYS):
                    spend(usage_journal, f"k{key}", day)
                await anyio.sleep(0.2)
            await anyio.sleep(1)
            kept = usage_journal.totals()
            assert (len(kept), min(kept["k0"]), max(kept["k0"])) == (KEYS, DECEMBER, TODAY)
            assert in_file(tmp_path)[0] == {
                (key, day): 1 for key, days in kept.items() for day in days
            }
    assert 12 <= len(forgotten) <= 16
    assert DROPPED_AT_ONCE == 1000


async def test_much_is_forgotten_by_turns(
    usage_journal: UsageJournal, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Each transaction drops a thousand rows, until none is left."""
    for key in range(2500):
        spend(usage_journal, f"k{key}", NOVEMBER)
    await anyio.sleep(1)
    spend(usage_journal, "k", DECEMBER)
    spend(usage_journal, "k", TODAY)
    await anyio.sleep(1)
    assert in_file(tmp_path)[0] == {("k", DECEMBER): 1, ("k", TODAY): 1}


async def test_budgets_survive_a_clock_that_was_wrong(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """After a clock ten years ahead and a restart by it, this month's usage is known."""
    async with open_usage_journal(tmp_path, runner=in_place, now=now) as usage_journal:
        spend(usage_journal, "k", TODAY, 70)
    for _ in range(2):
        async with open_usage_journal(tmp_path, runner=in_place, now=ten_years_on) as usage_journal:
            spend(usage_journal, "k", IN_2036, 5)
            await anyio.sleep(1)
    async with open_usage_journal(tmp_path, runner=in_place, now=now) as usage_journal:
        assert usage_journal.totals()["k"][TODAY] == 70


def ten_years_on() -> datetime:
    """Return the time of a wrong clock."""
    return datetime(2035, 9, 17, tzinfo=UTC)


def test_a_write_that_comes_too_late_changes_nothing(tmp_path: Path) -> None:
    """An abandoned thread does not overwrite a newer write."""
    file = UsageFile(tmp_path, MONTH)
    file.write({("k", TODAY): 7}, {}, 2)
    file.write({("k", TODAY): 5}, {"r": OpenRequest("k", TODAY, 5)}, 1)
    file.close()

    assert in_file(tmp_path) == ({("k", TODAY): 7}, set())


async def test_a_thread_that_hangs_in_the_file_is_left_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaving waits no longer than its deadline; the process keeps the file meanwhile."""
    monkeypatch.setattr("ollama_gateway.services.FINAL_WRITE_SECONDS", 0.01)
    started, release = threading.Event(), threading.Event()
    put: Callable[..., None] = UsageFile._put

    def hanging(self: UsageFile, *given: object) -> None:
        started.set()
        assert release.wait(timeout=600)
        put(self, *given)

    with structlog.testing.capture_logs() as lines:
        async with open_usage_journal(tmp_path, runner=in_thread, now=now) as usage_journal:
            monkeypatch.setattr(UsageFile, "_put", hanging)
            spend(usage_journal, "k", TODAY)
            await anyio.to_thread.run_sync(started.wait)
    assert [line["event"] for line in lines] == ["spending not written"]
    monkeypatch.setattr(UsageFile, "_put", put)
    async with open_usage_journal(tmp_path, runner=in_place, now=now) as other:
        assert (tmp_path / "budgets-1.db").exists()
        assert other.identity != usage_journal.identity
    release.set()
