"""What is charged for requests that their process does not end itself, and where that is kept."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ollama_gateway.limits.ownership import owned
from ollama_gateway.limits.quota import MAX_TOKENS
from ollama_gateway.limits.spending import Spending, charged_in, open_spending, others
from ollama_gateway.limits.spending_file import SpendingError, SpendingFile, read_file
from ollama_gateway.storage.batcher import in_place
from tests.limits.spent import DECEMBER, MONTH, NOVEMBER, TODAY, in_file, now


async def left_open(directory: Path) -> None:
    """A process that is killed with two requests open: of one a shared store was told."""
    file = SpendingFile(directory, MONTH)
    spending = Spending(file, in_place)
    for name in ("told", "untold", "ended"):
        spending.begin(name, "k", TODAY, 100)
    spending.tell({"told": (7, 2), "ended": (8, 3), "never begun": (1, 1)})
    await spending.write()
    spending.tell({"told": (7, 5)})
    spending.end("ended", 30)
    await spending.write()
    file.close()


async def test_what_was_told_last_is_charged(tmp_path: Path) -> None:
    """Where nothing was told, the prompt's bound; the next owner charges what others see before."""
    await left_open(tmp_path)
    assert in_file(tmp_path) == ({("k", TODAY): 30 + 12 + 100}, set())
    assert [given.totals for given in others(tmp_path, "")] == [{"k": {TODAY: 142}}]
    before = charged_in(tmp_path)

    async with open_spending(tmp_path, runner=in_place, now=now) as spending:
        assert spending.totals() == {"k": {TODAY: 142}}
        assert charged_in(tmp_path) == before == {"told": (7, 5), "untold": (100, 0)}
    assert charged_in(tmp_path) == before


async def test_what_earlier_owners_charged_is_kept(tmp_path: Path) -> None:
    """Each owner of a file keeps what it has charged, and leaves what others kept."""
    await left_open(tmp_path)
    with closing(SpendingFile(tmp_path, MONTH)) as file:
        spending = Spending(file, in_place)
        spending.begin("later", "k", TODAY, 9)
        await spending.write()
    async with open_spending(tmp_path, runner=in_place, now=now) as last:
        assert last.totals() == {"k": {TODAY: 151}}

    assert charged_in(tmp_path) == {"told": (7, 5), "untold": (100, 0), "later": (9, 0)}


async def test_old_charges_are_forgotten(tmp_path: Path) -> None:
    """They go with the days that no budget is asked for any more."""
    with closing(SpendingFile(tmp_path, MONTH)) as file:
        spending = Spending(file, in_place)
        for name, day in (("old", NOVEMBER), ("kept", DECEMBER), ("new", TODAY)):
            spending.begin(name, "k", day, 100)
        await spending.write()
    for _ in range(2):
        async with open_spending(tmp_path, runner=in_place, now=now):
            assert charged_in(tmp_path).keys() == {"kept", "new"}


async def test_figures_beyond_a_row_are_cut_to_it(tmp_path: Path) -> None:
    """As with all that is written here."""
    with closing(SpendingFile(tmp_path, MONTH)) as file:
        spending = Spending(file, in_place)
        spending.begin("r", "k", TODAY, 1)
        spending.tell({"r": (10**30, -5)})
        await spending.write()
    assert charged_in(tmp_path) == {"r": (MAX_TOKENS, 0)}


async def test_nothing_is_written_where_nothing_was_told_anew(tmp_path: Path) -> None:
    """A heartbeat of streams that stand still costs no write."""
    with closing(SpendingFile(tmp_path, MONTH)) as file:
        spending = Spending(file, in_place)
        spending.begin("r", "k", TODAY, 1)
        spending.tell({"r": (1, 1)})
        await spending.write()
        spending.tell({"r": (1, 1)})
        assert not spending.is_behind


async def test_a_file_of_an_older_version_is_read_and_taken(tmp_path: Path) -> None:
    """It has no charges; and an older version leaves the table alone: the schema is its own."""
    await left_open(tmp_path)
    path = tmp_path / "budgets-0.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        connection.execute("DROP TABLE charges")

    assert charged_in(tmp_path) == {"told": (100, 0), "untold": (100, 0)}
    async with open_spending(tmp_path, runner=in_place, now=now) as spending:
        assert spending.totals() == {"k": {TODAY: 230}}


@pytest.mark.parametrize("value", ["x", -1, MAX_TOKENS + 1, 1.5, None, b"\xff"])
async def test_a_row_that_was_not_written_here_is_refused(tmp_path: Path, value: object) -> None:
    """One line, and the rest of the directory is read."""
    await left_open(tmp_path)
    path = tmp_path / "budgets-0.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE charges SET answer = ? WHERE request_id = 'told'", (value,))

    with pytest.raises(SpendingError) as refusal:
        read_file(path)
    assert "\n" not in str(refusal.value)
    assert charged_in(tmp_path) == {}


async def test_of_a_process_that_lives_nothing_is_final(tmp_path: Path) -> None:
    """What is open there may still end as it likes."""
    with closing(SpendingFile(tmp_path, MONTH)) as file:
        spending = Spending(file, in_place)
        spending.begin("r", "k", TODAY, 50)
        await spending.write()
        assert charged_in(tmp_path) == {}
        with owned(file.path) as is_ours:
            assert not is_ours
