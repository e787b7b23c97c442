"""The usage journal while its file cannot be written: requests go on, nothing is lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import anyio
import attrs
import pytest
import structlog.testing

from ollama_gateway.limits.charges import OpenRequest
from ollama_gateway.limits.usage_file import USAGE_FORMAT, SpendingError, UsageFile
from ollama_gateway.limits.usage_journal import UsageJournal, open_usage_journal
from ollama_gateway.storage.batcher import in_place
from tests.limits.spent import MONTH, TODAY, Counting, in_file, now

T = TypeVar("T")

pytestmark = pytest.mark.virtual_time


async def test_failing_writes_are_repeated_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the file is locked, requests go on; writes are tried once a second, then catch up."""
    impatient = attrs.evolve(USAGE_FORMAT, busy_seconds=0)
    monkeypatch.setattr("ollama_gateway.limits.usage_file.USAGE_FORMAT", impatient)
    runner = Counting()
    with structlog.testing.capture_logs() as lines:
        async with open_usage_journal(tmp_path, runner=runner, now=now) as usage_journal:
            usage_journal.begin("before", "k", TODAY, 5)
            await anyio.sleep(1)
            with closing(sqlite3.connect(tmp_path / "budgets-0.db")) as other:
                other.execute("BEGIN IMMEDIATE")
                for number in range(6000):
                    usage_journal.begin(f"r{number}", "k", TODAY, 5)
                    usage_journal.end(f"r{number}", 1)
                    await anyio.sleep(0.01)
                usage_journal.end("before", 100)
                usage_journal.begin("after", "k", TODAY, 5)
                assert usage_journal.is_failing
                assert 60 <= runner.writes <= 66
                assert in_file(tmp_path) == ({}, {"before"})
                assert repr(usage_journal) == "<UsageJournal 1 open, 1 to write, file failing>"
            await anyio.sleep(1)
            assert (usage_journal.is_failing, *in_file(tmp_path)) == (
                False,
                {("k", TODAY): 6100},
                {"after"},
            )
    assert [line["event"] for line in lines] == [
        "spending file failing",
        "spending file works again",
    ]
    assert lines[0]["cause"] == f"{tmp_path / 'budgets-0.db'}: database is locked"


async def test_a_full_disk_is_waited_out(usage_journal: UsageJournal, tmp_path: Path) -> None:
    """A write that fails half-way leaves no trace, and succeeds once there is room."""
    usage_journal.begin("before", "k", TODAY, 5)
    await anyio.sleep(1)
    connection = usage_journal._file._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    usage_journal.end("before", 100)
    for number in range(1000):
        usage_journal.begin(f"r{number}", f"k{number}", TODAY, 5)
    await anyio.sleep(1)
    assert usage_journal.is_failing
    assert in_file(tmp_path) == ({}, {"before"})
    for number in range(1000):
        usage_journal.end(f"r{number}", 1)
    connection.execute("PRAGMA max_page_count = 1000000")
    await anyio.sleep(1)
    spent, opened = in_file(tmp_path)
    assert (usage_journal.is_failing, sum(spent.values()), opened) == (False, 1100, set())


def test_a_write_that_fails_half_way_changes_nothing(tmp_path: Path) -> None:
    """The rows before the failed one are rolled back, and the next write is complete."""
    with closing(UsageFile(tmp_path, MONTH)) as file:
        file.write({("k", TODAY): 1}, {"a": OpenRequest("k", TODAY, 5)})
        with pytest.raises(SpendingError, match="a row"):
            file.write({("k", TODAY): 2, ("\ud800", TODAY): 2}, {"b": OpenRequest("k", TODAY, 5)})
        assert in_file(tmp_path) == ({("k", TODAY): 1}, {"a"})
        file.write({("k", TODAY): 3}, {"c": OpenRequest("k", TODAY, 5)})
        assert in_file(tmp_path) == ({("k", TODAY): 3}, {"c"})


def test_a_write_touches_only_what_changed(tmp_path: Path) -> None:
    """However many requests are open, one more or one less writes one row."""
    opened = {f"r{number}": OpenRequest("k", TODAY, 5) for number in range(1000)}
    with closing(UsageFile(tmp_path, MONTH)) as file:
        file.write({}, opened)
        before = file._connection.total_changes
        file.write({}, {**opened, "more": OpenRequest("k", TODAY, 5)})
        file.write({}, opened)
        assert file._connection.total_changes == before + 2


async def test_a_file_moved_away_is_noticed_and_taken_back(tmp_path: Path) -> None:
    """A moved or replaced file fails with a line that says so; put back, it is written again."""
    path, aside = tmp_path / "budgets-0.db", tmp_path / "aside"
    with structlog.testing.capture_logs() as lines:
        async with open_usage_journal(tmp_path, runner=in_place, now=now) as usage_journal:
            for spoil in (lambda: None, lambda: path.write_text("other"), path.mkdir):
                path.rename(aside)
                spoil()
                usage_journal.begin("r", "k", TODAY, 5)
                usage_journal.end("r", 7)
                await anyio.sleep(1)
                failed = usage_journal.is_failing
                if path.is_dir():
                    path.rmdir()
                aside.replace(path)
                await anyio.sleep(1)
                assert (failed, usage_journal.is_failing) == (True, False)
            assert in_file(tmp_path) == ({("k", TODAY): 21}, set())
    causes = [line["cause"] for line in lines if "cause" in line]
    assert causes == [
        f"{path} is gone: put it back, or restart the gateway",
        f"{path} was replaced while in use: restart the gateway",
        f"{path}: not a file",
    ]


@pytest.mark.parametrize(
    ("write", "logged"),
    [(3600.0, ["spending not written"]), (4.0, [])],
    ids=["the write hangs", "the write is late and the close hangs"],
)
async def test_leaving_waits_no_longer_than_5_seconds(
    tmp_path: Path, write: float, logged: list[str]
) -> None:
    """The last write and the close share 5 s; what hangs is abandoned, a write with a line."""
    pause = 0.0

    async def hanging(work: Callable[[], T], /) -> T:
        is_close = work == usage_journal._file.close if pause else False
        await anyio.sleep(3600 if is_close else pause)
        return work()

    with structlog.testing.capture_logs() as lines:
        async with open_usage_journal(tmp_path, runner=hanging, now=now) as usage_journal:
            await anyio.sleep(60)
            pause = write
            usage_journal.begin("r", "k", TODAY, 5)

    assert anyio.current_time() == 65
    assert [line["event"] for line in lines] == logged
    usage_journal._file.close()
    async with open_usage_journal(tmp_path, runner=in_place, now=now) as after:
        assert after.identity == usage_journal.identity
