"""The usage journal, in memory and in its file, in virtual time and in threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
import pytest
import trio.testing

from ollama_gateway.limits.quota import MAX_TOKENS
from ollama_gateway.limits.usage_file import LAST_DAY
from ollama_gateway.limits.usage_journal import UsageJournal, open_usage_journal
from ollama_gateway.storage.batcher import in_place, in_thread
from tests.limits.spent import TODAY, Counting, in_file, now
from tests.support.patience import PATIENCE
from tests.support.runners import Slow

T = TypeVar("T")


async def test_a_restart_keeps_what_was_spent(tmp_path: Path) -> None:
    """Totals and identity are the same in the next process, and further tokens are added."""
    async with open_usage_journal(tmp_path, now=now) as usage_journal:
        identity = usage_journal.identity
        for number, tokens in enumerate((10, 20, 30)):
            usage_journal.begin(f"r{number}", f"k{number % 2}", TODAY, 5)
            usage_journal.end(f"r{number}", tokens)
        assert usage_journal.totals() == {"k0": {TODAY: 40}, "k1": {TODAY: 20}}
    async with open_usage_journal(tmp_path, now=now) as usage_journal:
        assert usage_journal.identity == identity
        assert usage_journal.totals() == {"k0": {TODAY: 40}, "k1": {TODAY: 20}}
        usage_journal.begin("r3", "k0", TODAY + 1, 5)
        usage_journal.end("r3", 1)
    async with open_usage_journal(tmp_path, now=now) as usage_journal:
        assert usage_journal.totals() == {"k0": {TODAY: 40, TODAY + 1: 1}, "k1": {TODAY: 20}}


async def test_a_request_is_charged_once(usage_journal: UsageJournal) -> None:
    """Ending an ended or unknown request changes nothing; nor does a second begin."""
    usage_journal.end("unknown", 100)
    usage_journal.begin("r", "k", TODAY, 5)
    usage_journal.begin("r", "other", TODAY, 50)
    assert usage_journal.totals() == {}
    for tokens in (7, 8, 9):
        usage_journal.end("r", tokens)
    assert usage_journal.totals() == {"k": {TODAY: 7}}


async def test_totals_are_a_copy(usage_journal: UsageJournal) -> None:
    """Changing the returned totals changes nothing in the journal."""
    usage_journal.begin("r", "k", TODAY, 5)
    usage_journal.end("r", 7)
    usage_journal.totals()["k"][TODAY] = 0
    assert usage_journal.totals() == {"k": {TODAY: 7}}


async def test_figures_beyond_a_row_are_cut_to_it(tmp_path: Path) -> None:
    """No figure, however absurd, makes a file that its next owner would refuse."""
    async with open_usage_journal(tmp_path, runner=in_place, now=now) as usage_journal:
        for number, tokens in enumerate((10**30, 10**30, -5)):
            usage_journal.begin(f"r{number}", f"k{number // 2}", LAST_DAY, 10**30)
            usage_journal.end(f"r{number}", tokens)
        usage_journal.begin("open", "k0", LAST_DAY, 10**30)
        assert usage_journal.totals() == {"k0": {LAST_DAY: MAX_TOKENS}, "k1": {LAST_DAY: 0}}
    async with open_usage_journal(tmp_path, runner=in_place, now=now) as usage_journal:
        assert usage_journal.totals() == {"k0": {LAST_DAY: MAX_TOKENS}, "k1": {LAST_DAY: 0}}


async def test_nothing_is_unwritten_for_longer_than_100_ms(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """A lone change is written at once, the next within 100 ms, and without changes nothing."""
    runner = Counting()
    async with open_usage_journal(tmp_path, runner=runner, now=now) as usage_journal:
        await anyio.sleep(60)
        assert runner.writes == 0
        usage_journal.begin("r", "k", TODAY, 5)
        await trio.testing.wait_all_tasks_blocked()
        assert in_file(tmp_path) == ({}, {"r"})
        await anyio.sleep(0.01)
        usage_journal.end("r", 7)
        await anyio.sleep(0.085)
        assert in_file(tmp_path) == ({}, {"r"})
        await anyio.sleep(0.01)
        assert in_file(tmp_path) == ({("k", TODAY): 7}, set())
        await anyio.sleep(60)
        assert runner.writes == 2
        assert not usage_journal.is_behind


async def test_a_thousand_ends_are_few_transactions(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """A thousand requests within a second are written in ten or eleven transactions."""
    runner = Counting()
    async with open_usage_journal(tmp_path, runner=runner, now=now) as usage_journal:
        for number in range(1000):
            usage_journal.begin(f"r{number}", f"k{number % 10}", TODAY, 5)
            usage_journal.end(f"r{number}", number)
            await anyio.sleep(0.001)
    assert 10 <= runner.writes <= 12
    spent, opened = in_file(tmp_path)
    assert spent == {(f"k{n}", TODAY): sum(range(n, 1000, 10)) for n in range(10)}
    assert opened == set()


async def test_the_file_follows_whatever_happens_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begins and ends before, during and after writes in a thread reach the file, each once."""
    monkeypatch.setattr("ollama_gateway.services.SHORTEST_PAUSE", 0)
    async with open_usage_journal(tmp_path, now=now) as usage_journal:
        for number in range(200):
            usage_journal.begin(f"r{number}", f"k{number % 7}", TODAY, 5)
            if number >= 20:
                usage_journal.end(f"r{number - 20}", number)
            await in_thread(lambda: None)  # writes take turns with this
        totals = usage_journal.totals()
    spent, opened = in_file(tmp_path)
    assert sum(sum(days.values()) for days in totals.values()) == sum(range(20, 200))
    assert (sum(spent.values()), opened) == (sum(range(20, 200)) + 20 * 5, set())


async def leave_by_an_exception(directory: Path) -> None:
    """Spend and raise."""
    async with open_usage_journal(directory, runner=in_place, now=now) as usage_journal:
        usage_journal.begin("b", "k", TODAY, 5)
        usage_journal.end("b", 10)
        raise KeyError("body")


async def test_leaving_writes_what_is_left(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Whether by its end, an exception or a cancellation: all is written, no error is wrapped."""
    async with open_usage_journal(tmp_path, runner=in_place, now=now) as usage_journal:
        usage_journal.begin("a", "k", TODAY, 5)
        usage_journal.end("a", 1)
    with pytest.raises(KeyError, match="body"):
        await leave_by_an_exception(tmp_path)
    with anyio.move_on_after(5) as scope:
        async with open_usage_journal(tmp_path, runner=Slow(1), now=now) as usage_journal:
            try:
                await anyio.sleep(60)
            finally:
                usage_journal.begin("c", "k", TODAY, 5)
                usage_journal.end("c", 100)
    assert scope.cancelled_caught
    assert in_file(tmp_path) == ({("k", TODAY): 111}, set())


async def test_a_write_that_runs_when_the_block_is_left_is_waited_for(tmp_path: Path) -> None:
    """The last write begins after the one in a thread, and includes the changes since."""
    started, release = threading.Event(), threading.Event()
    calls: list[int] = []

    async def held_up(work: Callable[[], T], /) -> T:
        def late() -> T:
            calls.append(threading.get_ident())
            if len(calls) == 2:
                started.set()
                assert release.wait(timeout=PATIENCE)
            return work()

        return await in_thread(late)

    async with open_usage_journal(tmp_path, runner=held_up, now=now) as usage_journal:
        usage_journal.begin("r", "k", TODAY, 5)
        await anyio.to_thread.run_sync(started.wait)
        usage_journal.end("r", 7)
        release.set()
    assert len(calls) == 4  # it is opened and closed in a thread, too
    assert threading.get_ident() not in calls
    assert in_file(tmp_path) == ({("k", TODAY): 7}, set())
