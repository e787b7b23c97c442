"""Expired records of journals: which are dropped, when, and which lines are logged."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
import structlog
import structlog.testing

from ollama_gateway import log_output
from ollama_gateway.ledger.journal import Journal, JournalEntry
from ollama_gateway.ledger.ownership import own_journal
from ollama_gateway.ledger.retention import DAY, HOUR
from ollama_gateway.ledger.upkeep import Upkeep
from ollama_gateway.ledger.writer import JournalWriter, write_journal
from ollama_gateway.storage.batcher import in_place
from tests.ledger.clocks import KEEP, NOW, Time, days_ago, entries
from tests.ledger.records import KEY, ids, journal, record
from tests.support.patience import PATIENCE
from tests.support.runners import Slow

pytestmark = pytest.mark.virtual_time


@asynccontextmanager
async def upkeep(directory: Path, time: Time) -> AsyncIterator[Upkeep]:
    """Open the upkeep of a process for the length of the block."""
    with own_journal(directory, is_strict=False, key=KEY) as owned:
        async with write_journal(JournalWriter(owned, is_strict=False, runner=in_place)) as writer:
            faults: list[str] = []
            yield Upkeep(writer, KEY, KEEP, in_place, faults.append, clocks=time.clocks)


def written(directory: Path, *given: Sequence[JournalEntry]) -> Path:
    """Write the journal of a process that has ended."""
    path = directory / "journal-0.db"
    with closing(journal(path)) as opened:
        for some in given:
            opened.commit(some)
    return path


def told(lines: Sequence[Any], event: str) -> list[Any]:
    """Return the log lines of an event."""
    return [line for line in lines if line["event"] == event]


async def test_old_records_are_dropped_and_logged(tmp_path: Path) -> None:
    """That happens once an hour; a warning says how many, which, and by which clock."""
    path = written(tmp_path, entries("old", 2500, 40), entries("new", 3, 0.5))
    with structlog.testing.capture_logs() as lines:
        async with upkeep(tmp_path, Time()) as one:
            await one.look_after()
            await one.look_after()

    assert len(ids(path)) == 3
    [line] = told(lines, "audit rows past their time dropped")
    assert (line["log_level"], line["journal"], line["rows"]) == ("warning", "journal-0.db", 2500)
    assert (line["first"], line["last"]) == (1, 2500)
    assert line["began_before"] == datetime.fromtimestamp(NOW - KEEP, UTC).isoformat(
        timespec="seconds"
    )


async def test_a_clock_that_runs_ahead_drops_nothing(tmp_path: Path) -> None:
    """It drops nothing after new requests either, nor from unowned journals."""
    time = Time(NOW + 500 * DAY)
    path = written(tmp_path, entries("today", 5, 0.1))
    with structlog.testing.capture_logs() as lines:
        async with upkeep(tmp_path, time) as one:
            with closing(journal(tmp_path / "journal-9.db")) as unowned:
                unowned.commit(entries("orphan", 5, 0.1))
            for number in range(5):
                await one.look_after()
                one.writer.journal.commit(entries(f"wrong{number}-", 1, -500))
                await anyio.sleep(HOUR)
                time.pass_(HOUR)

    assert ids(path)[:5] == [f"today{n}" for n in range(5)]
    assert len(ids(tmp_path / "journal-9.db")) == 5
    [line] = told(lines, "audit rows past their time are kept")
    assert (line["log_level"], line["cause"]) == ("warning", "the clock is not confirmed yet")
    assert line["last_row"].startswith(f"{datetime.fromtimestamp(days_ago(0.1), UTC):%Y-%m-%d}")
    assert not told(lines, "audit rows past their time dropped")


async def test_a_gateway_that_was_off_for_long_goes_on_dropping(tmp_path: Path) -> None:
    """It does so after six hours, with or without requests."""
    time = Time()
    path = written(tmp_path, entries("old", 5, 40))
    async with upkeep(tmp_path, time) as one:
        for _ in range(7):
            await one.look_after()
            await anyio.sleep(HOUR)
            time.pass_(HOUR)
        assert ids(path) == []
        assert one.writer.journal.checkpoint.seq == 5


async def test_an_unowned_journal_is_trimmed_by_turns(tmp_path: Path) -> None:
    """All expired records go at once, a thousand a transaction; a warning names the journal."""
    with closing(journal(tmp_path / "journal-9.db")) as unowned:
        unowned.commit(entries("old", 2500, 40))
    written(tmp_path, entries("new", 1, 0.1))
    with structlog.testing.capture_logs() as lines:
        async with upkeep(tmp_path, Time()) as one:
            await one.look_after()

    [line] = told(lines, "audit rows past their time dropped")
    assert (line["journal"], line["rows"], line["last"]) == ("journal-9.db", 2500, 2500)
    assert ids(tmp_path / "journal-9.db") == []


async def test_a_journal_that_cannot_be_read_at_first_confirms_the_clock_later(
    tmp_path: Path,
) -> None:
    """Its records from before confirm the clock at the next look."""
    time = Time()
    path = written(tmp_path, entries("old", 5, 40), entries("new", 3, 0.5))
    async with upkeep(tmp_path, time) as one:
        path.rename(tmp_path / "away")
        await one.look_after()
        (tmp_path / "away").rename(path)
        await anyio.sleep(HOUR)
        time.pass_(HOUR)
        await one.look_after()

    assert ids(path) == ["new0", "new1", "new2"]


async def test_what_is_written_comes_between_two_turns(tmp_path: Path) -> None:
    """However much is dropped, writers get their turn after every thousand records."""
    turns: list[str] = []

    class Noting(Journal):
        """A journal that notes its transactions."""

        def commit(self, given: Sequence[JournalEntry], *, is_durable: bool = True) -> None:
            turns.append("commit")
            super().commit(given, is_durable=is_durable)

        def trim(self, before: float, now: float | None = None) -> int:
            turns.append("trim")
            return super().trim(before, now)

    with closing(Noting(tmp_path / "journal-0.db", is_strict=True, key=KEY)) as opened:
        opened.commit(entries("old", 5000, 40))
        writer = JournalWriter(opened, is_strict=True, runner=Slow(1))
        turns.clear()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(writer.trim, NOW - KEEP)
            await anyio.sleep(1.5)
            writer.close(attrs.evolve(record("new"), started_at=datetime.now(UTC)))
            await writer.write()

    assert turns == ["trim", "trim", "commit", "trim", "trim", "trim", "trim"]
    assert ids(tmp_path / "journal-0.db") == ["new"]


async def test_the_head_is_logged_at_every_level(tmp_path: Path) -> None:
    """A gateway that logs errors only still logs its heads, once each."""
    written(tmp_path, entries("a", 3, 0.5))
    out = io.StringIO()
    writer = log_output.configure("error", "json", out)
    try:
        async with upkeep(tmp_path, Time()) as one:
            one.log_head()
            one.log_head()
        writer.drain(PATIENCE)
    finally:
        structlog.reset_defaults()

    (head,) = map(json.loads, out.getvalue().splitlines())
    assert (head["event"], head["rows"], head["level"]) == ("audit head", 3, "info")
