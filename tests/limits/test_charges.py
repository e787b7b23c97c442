"""Charges of requests that their process does not end itself."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ollama_gateway.limits.contributions import read_charges, read_contributions
from ollama_gateway.limits.quota import MAX_TOKENS
from ollama_gateway.limits.usage_file import SpendingError, UsageFile, read_file
from ollama_gateway.limits.usage_journal import UsageJournal, open_usage_journal
from ollama_gateway.limits.usage_locks import owned
from ollama_gateway.storage.batcher import in_place
from tests.limits.spent import DECEMBER, MONTH, NOVEMBER, TODAY, in_file, now


async def left_open(directory: Path) -> None:
    """A killed process left two requests open; one was reported to a shared store."""
    file = UsageFile(directory, MONTH)
    usage_journal = UsageJournal(file, in_place)
    for name in ("told", "untold", "ended"):
        usage_journal.begin(name, "k", TODAY, 100)
    usage_journal.note_charges({"told": (7, 2), "ended": (8, 3), "never begun": (1, 1)})
    await usage_journal.write()
    usage_journal.note_charges({"told": (7, 5)})
    usage_journal.end("ended", 30)
    await usage_journal.write()
    file.close()


async def test_what_was_told_last_is_charged(tmp_path: Path) -> None:
    """Otherwise the prompt's bound counts; the next owner charges what readers saw before."""
    await left_open(tmp_path)
    assert in_file(tmp_path) == ({("k", TODAY): 30 + 12 + 100}, set())
    assert [one.totals for one in read_contributions(tmp_path, "")] == [{"k": {TODAY: 142}}]
    before = read_charges(tmp_path)

    async with open_usage_journal(tmp_path, runner=in_place, now=now) as usage_journal:
        assert usage_journal.totals() == {"k": {TODAY: 142}}
        assert read_charges(tmp_path) == before == {"told": (7, 5), "untold": (100, 0)}
    assert read_charges(tmp_path) == before


async def test_what_earlier_owners_charged_is_kept(tmp_path: Path) -> None:
    """Each owner of a file keeps its charges and those of earlier owners."""
    await left_open(tmp_path)
    with closing(UsageFile(tmp_path, MONTH)) as file:
        usage_journal = UsageJournal(file, in_place)
        usage_journal.begin("later", "k", TODAY, 9)
        await usage_journal.write()
    async with open_usage_journal(tmp_path, runner=in_place, now=now) as last:
        assert last.totals() == {"k": {TODAY: 151}}

    assert read_charges(tmp_path) == {"told": (7, 5), "untold": (100, 0), "later": (9, 0)}


async def test_old_charges_are_forgotten(tmp_path: Path) -> None:
    """Charges are dropped with the days that no budget needs."""
    with closing(UsageFile(tmp_path, MONTH)) as file:
        usage_journal = UsageJournal(file, in_place)
        for name, day in (("old", NOVEMBER), ("kept", DECEMBER), ("new", TODAY)):
            usage_journal.begin(name, "k", day, 100)
        await usage_journal.write()
    for _ in range(2):
        async with open_usage_journal(tmp_path, runner=in_place, now=now):
            assert read_charges(tmp_path).keys() == {"kept", "new"}


async def test_figures_beyond_a_row_are_cut_to_it(tmp_path: Path) -> None:
    """No charge makes a row that the next owner would refuse."""
    with closing(UsageFile(tmp_path, MONTH)) as file:
        usage_journal = UsageJournal(file, in_place)
        usage_journal.begin("r", "k", TODAY, 1)
        usage_journal.note_charges({"r": (10**30, -5)})
        await usage_journal.write()
    assert read_charges(tmp_path) == {"r": (MAX_TOKENS, 0)}


async def test_nothing_is_written_where_nothing_was_told_anew(tmp_path: Path) -> None:
    """A heartbeat without new tokens costs no write."""
    with closing(UsageFile(tmp_path, MONTH)) as file:
        usage_journal = UsageJournal(file, in_place)
        usage_journal.begin("r", "k", TODAY, 1)
        usage_journal.note_charges({"r": (1, 1)})
        await usage_journal.write()
        usage_journal.note_charges({"r": (1, 1)})
        assert not usage_journal.is_behind


async def test_a_file_of_an_older_version_is_read_and_taken(tmp_path: Path) -> None:
    """It has no charges; an older version ignores the table, as the schema version is the same."""
    await left_open(tmp_path)
    path = tmp_path / "budgets-0.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        connection.execute("DROP TABLE charges")

    assert read_charges(tmp_path) == {"told": (100, 0), "untold": (100, 0)}
    async with open_usage_journal(tmp_path, runner=in_place, now=now) as usage_journal:
        assert usage_journal.totals() == {"k": {TODAY: 230}}


@pytest.mark.parametrize("value", ["x", -1, MAX_TOKENS + 1, 1.5, None, b"\xff"])
async def test_a_row_that_was_not_written_here_is_refused(tmp_path: Path, value: object) -> None:
    """A bad row is one line, and the other files are read."""
    await left_open(tmp_path)
    path = tmp_path / "budgets-0.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE charges SET answer = ? WHERE request_id = 'told'", (value,))

    with pytest.raises(SpendingError) as refusal:
        read_file(path)
    assert "\n" not in str(refusal.value)
    assert read_charges(tmp_path) == {}


async def test_of_a_process_that_lives_nothing_is_final(tmp_path: Path) -> None:
    """Its open requests may still end otherwise."""
    with closing(UsageFile(tmp_path, MONTH)) as file:
        usage_journal = UsageJournal(file, in_place)
        usage_journal.begin("r", "k", TODAY, 50)
        await usage_journal.write()
        assert read_charges(tmp_path) == {}
        with owned(file.path) as is_ours:
            assert not is_ours
