"""Journals and PostgreSQL as one audit log, while records move from one to the other."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio.to_thread
import psycopg
import pytest

from ollama_gateway.ledger.postgres import AuditTable
from ollama_gateway.ledger.read import segment
from ollama_gateway.ledger.read.audit_log import AuditLog, merged, start_at_newest
from ollama_gateway.ledger.read.filtering import Filter, TimeRange
from ollama_gateway.ledger.read.page import Page
from ollama_gateway.ledger.read.segment import walked
from ollama_gateway.ledger.read.stored import AuditTableReader
from tests.ledger.audit_logs import ALL, began, ended, move, moved, still_open, written
from tests.ledger.records import BEGAN, journal
from tests.ledger.test_flusher import machine, names
from tests.support.patience import until
from tests.support.postgres_server import PostgresServer


@pytest.fixture
def records(database_url: str) -> Iterator[AuditTableReader]:
    """Open the reader of PostgreSQL."""
    with closing(AuditTableReader(database_url)) as opened:
        yield opened


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pages of a few records."""
    monkeypatch.setattr(segment, "FIRST", 1)
    monkeypatch.setattr(segment, "PAGE", 3)


def audit_log(directory: Path, records: AuditTableReader) -> AuditLog:
    """Open the whole audit log; any fault fails the test."""
    return AuditLog(directory, pytest.fail, records)


def ids(source: AuditLog, time_range: TimeRange = ALL) -> list[str]:
    """Return the ids of the unread records, in order."""
    return [record.request_id for record in source.records(Filter(time_range))]


def machines(directory: Path, url: str) -> list[str]:
    """Write three journals: one of another machine, one moved in part, one not at all."""
    orders = [[f"r{n:02}" for n in range(start, 30, 3)] for start in range(3)]
    other, here = directory / "other", directory / "here"
    for place in (other, here):
        place.mkdir()
    written(other, [ended(name, int(name[1:])) for name in orders[0]])
    written(here, *([ended(name, int(name[1:])) for name in order] for order in orders[1:]))
    moved(other / "journal-0.db", url)
    moved(here / "journal-0.db", url, 4)
    return [f"r{n:02}" for n in range(30)]


@pytest.mark.usefixtures("small")
def test_a_fleet_is_one_audit_log(
    tmp_path: Path, database_url: str, records: AuditTableReader
) -> None:
    """Records come once each, in the order of the ends, wherever they are; then none is new."""
    names = machines(tmp_path, database_url)
    source = audit_log(tmp_path / "here", records)

    assert ids(source) == names
    assert ids(source) == []


@pytest.mark.usefixtures("small")
def test_a_time_range_and_the_newest(
    tmp_path: Path, database_url: str, records: AuditTableReader
) -> None:
    """Both work as with journals alone: by the beginning, and as many as are wanted."""
    names = machines(tmp_path, database_url)
    begin, end = (BEGAN + timedelta(seconds=second) for second in (3, 25))
    for time_range, wanted in ((TimeRange(begin, end), names[3:25]), (TimeRange(begin), names[3:])):
        assert ids(audit_log(tmp_path / "here", records), time_range) == wanted
        for count in (0, 1, 9, 99):
            source = audit_log(tmp_path / "here", records)
            segments = source.segments()
            start_at_newest(segments, Filter(time_range), count)
            assert [one.request_id for one in merged(segments, Filter(time_range))] == wanted[
                len(wanted) - count :
            ][: count or 0]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("seed", range(20))
def test_records_that_move_between_any_two_pages(
    tmp_path: Path, database_url: str, records: AuditTableReader, seed: int
) -> None:
    """Whenever and however far records move, a reader gets each once, in order."""
    chance, path = random.Random(seed), tmp_path / "journal-0.db"  # noqa: S311 - no secret
    source, given = audit_log(tmp_path, records), 0
    seen: list[str] = []

    def commit(count: int) -> None:
        nonlocal given
        owned.commit([ended(f"r{n}", n) for n in range(given, given + count)])
        given += count

    with closing(journal(path)) as owned, closing(AuditTable(database_url)) as table:
        commit(40)
        while len(seen) < 60:
            for record in source.records(Filter()):
                seen.append(record.request_id)
                if chance.random() < 0.3:
                    move(owned, table, chance.randint(1, 9))
                if given < 60 and chance.random() < 0.3:
                    commit(1)
            commit(60 - given)
            move(owned, table, chance.randint(1, 9))
    assert seen == [f"r{n}" for n in range(60)]


async def test_reading_beside_a_flusher_at_work(
    tmp_path: Path, database_url: str, records: AuditTableReader
) -> None:
    """While records come and move, a follower and each new reader see every one once."""
    given: list[str] = []
    follower = audit_log(tmp_path, records)
    followed: list[str] = []
    async with machine(tmp_path, database_url, pause=0.001) as one:
        for turn in range(25):
            one.add(*(more := names(f"t{turn}-", 40)))
            given += more
            before = len(followed)
            followed += await anyio.to_thread.run_sync(ids, follower)
            whole = await anyio.to_thread.run_sync(ids, audit_log(tmp_path, records))
            assert len(set(whole)) == len(whole) >= before
            assert whole == given[: len(whole)]
        await until(lambda: one.is_moved)
    followed += ids(follower)

    assert followed == given
    assert ids(audit_log(tmp_path, records)) == given


def test_what_is_known_of_a_request(
    tmp_path: Path, database_url: str, records: AuditTableReader
) -> None:
    """A record is found wherever it is; a running request only on its own machine."""
    machines(tmp_path, database_url)
    source = audit_log(tmp_path / "here", records)
    with closing(still_open(tmp_path / "here", began("open"))):
        for name in ("r00", "r01", "r28", "r02", "open"):
            found = source.find(name)
            assert found is not None
            assert found.request_id == name
        assert [record.request_id for record in source.running()] == ["open"]
    found = source.find("r00")
    assert found is not None
    assert found.journal.startswith("PostgreSQL, journal ")
    assert [source.find(name) for name in ("nobody", "\udcff", "a\x00b", "'")] == [None] * 4


def test_a_new_machine_is_followed(
    tmp_path: Path, database_url: str, records: AuditTableReader
) -> None:
    """A journal that appears after the following began is read too."""
    source = audit_log(tmp_path, records)
    assert ids(source) == []
    machines(tmp_path, database_url)

    assert ids(source) == [f"r{n:02}" for n in range(28) if n % 3 == 0 or (n % 3 == 1 and n < 11)]


class CountedTable(AuditTableReader):
    """Counts its questions."""

    asked = 0

    def _ask(self, question: str, **values: Any) -> list[tuple[Any, ...]]:
        self.asked += 1
        return super()._ask(question, **values)


def test_following_asks_postgresql_once_a_look(tmp_path: Path, database_url: str) -> None:
    """However many journals there are, and whether they have new records or not."""
    machines(tmp_path, database_url)
    with closing(CountedTable(database_url)) as table:
        source = audit_log(tmp_path / "here", table)
        assert len(ids(source)) == 30
        for number in range(3):
            table.asked = 0
            assert ids(source) == []
            assert table.asked == 1

            written(tmp_path / "other", [ended(f"new{number}", 99 + number)])
            moved(tmp_path / "other" / "journal-0.db", database_url)
            table.asked = 0
            assert ids(source) == [f"new{number}"]
            assert table.asked == 1


def test_a_damaged_record_is_reported(
    tmp_path: Path, database_url: str, records: AuditTableReader
) -> None:
    """Its journal and number are reported; the others are read."""
    machines(tmp_path, database_url)
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE gateway_audit SET document = '[1' WHERE request_id = 'r03'")
    faults: list[str] = []
    source = AuditLog(tmp_path, faults.append, records)

    assert ids(source)[:3] == ["r00", "r01", "r04"]
    [fault] = faults
    assert fault.startswith("PostgreSQL, journal ")
    assert fault.endswith(": record 2 is not as this program writes it")


def test_an_outage_is_made_up_for(own_postgres: PostgresServer, tmp_path: Path) -> None:
    """Journals are read meanwhile; moved records follow when PostgreSQL is back, each once."""
    url = own_postgres.url_of("migrated")
    expected = machines(tmp_path, url)
    with closing(AuditTableReader(url)) as records:
        faults: list[str] = []
        source = AuditLog(tmp_path / "here", faults.append, records)
        own_postgres.stop()
        first, second = ids(source), ids(source)
        assert source.find("r00") is None
        own_postgres.start()
        third = ids(source)

    assert faults == ["PostgreSQL cannot be reached"]
    assert second == []
    assert sorted(first + third) == expected
    assert set(first) == {f"r{n:02}" for n in range(30) if n % 3 == 2 or (n % 3 == 1 and n > 10)}


def test_thousands_of_journals_take_small_pages_at_first() -> None:
    """Only a long segment gets large pages."""
    sizes = segment._sizes()

    assert [next(sizes) for _ in range(6)] == [8, 32, 128, 512, 1000, 1000]


def test_records_that_no_longer_exist_are_passed() -> None:
    """As if both the journal and PostgreSQL were cleared up to some record."""

    def local(after: int) -> Page[int]:
        found = [record for record in (6, 7) if record > after]
        return Page(found, max(after, 7), checkpoint=5)

    def stored(after: int, upto: int) -> Page[int]:
        return Page([record for record in (3, 9) if after < record <= upto], upto)

    pages = walked(0, 9, local, stored)
    assert [record for page in pages for record in page.items] == [3, 6, 7, 9]
