"""Reading the records since a moment from a long table."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from ollama_gateway.ledger.read import segment
from ollama_gateway.ledger.read.audit_log import AuditLog, merged, start_at_newest
from ollama_gateway.ledger.read.filtering import Filter, TimeRange
from ollama_gateway.ledger.read.page import Page, RawRecord
from ollama_gateway.ledger.read.stored import AuditTableReader
from ollama_gateway.storage.database import DatabaseError
from tests.ledger.audit_logs import ended, moved, written
from tests.ledger.records import BEGAN

WANTED = Filter(TimeRange(BEGAN + timedelta(seconds=80)))


class WatchedTable(AuditTableReader):
    """Notes after which seq each page was read."""

    afters: tuple[int, ...] = ()

    def page(
        self, journal: str, after: int, upto: int, wanted: Filter, size: int
    ) -> Page[RawRecord]:
        """Note the seq."""
        self.afters += (after,)
        return super().page(journal, after, upto, wanted, size)

    def page_before(
        self, journal: str, after: int, before: int, wanted: Filter, size: int
    ) -> list[RawRecord]:
        """Note the seq."""
        self.afters += (after,)
        return super().page_before(journal, after, before, wanted, size)


def write(directory: Path, url: str, requests: list[tuple[int, int]]) -> None:
    """Write a journal of requests, given by their seconds of begin and end, and move it."""
    directory.mkdir(exist_ok=True)
    entries = [ended(f"{directory.name}{n:02}", n, took=until - n) for n, until in requests]
    written(directory, entries)
    moved(directory / "journal-0.db", url)


def found_in(source: AuditLog) -> list[str]:
    """Return the ids of the unread records since the moment."""
    return sorted(record.request_id for record in source.records(WANTED))


@pytest.fixture
def expected(tmp_path: Path, database_url: str) -> list[str]:
    """Fill PostgreSQL; of the first requests since the moment, the first ends last."""
    late = [(n, n + 1) for n in range(81, 99)]
    late[4:4] = [(80, 85), (20, 85)]
    write(tmp_path / "a", database_url, [*((n, n + 1) for n in range(79) if n != 20), *late])
    write(tmp_path / "b", database_url, [(n, n + 1) for n in range(60)])
    return [f"a{n}" for n in range(80, 99)]


def test_a_reader_begins_at_the_first_record_since_a_moment(
    tmp_path: Path, database_url: str, expected: list[str]
) -> None:
    """No page reads what ended before; what arrives later is read as well."""
    with closing(WatchedTable(database_url)) as table:
        source = AuditLog(tmp_path / "none", pytest.fail, table)
        assert found_in(source) == expected
        assert table.afters == (78,)

        write(tmp_path / "b", database_url, [(3, 99), (99, 100)])
        write(tmp_path / "c", database_url, [(4, 5), (81, 82)])
        assert found_in(source) == ["b99", "c81"]


def test_the_newest_since_a_moment_end_there(
    tmp_path: Path, database_url: str, expected: list[str]
) -> None:
    """A journal without any recent record is not read back to its beginning."""
    with closing(WatchedTable(database_url)) as table:
        segments = AuditLog(tmp_path / "none", pytest.fail, table).segments()
        start_at_newest(segments, WANTED, 3)
        assert min(table.afters) == 60
        newest = [record.request_id for record in merged(segments, WANTED)]
    assert newest == expected[-3:]


def test_too_many_records_are_not_looked_at(
    tmp_path: Path, database_url: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then reading begins at the beginning, which is a small part of it."""
    monkeypatch.setattr(segment, "LOOKED_AT", len(expected) - 1)
    with closing(WatchedTable(database_url)) as table:
        assert found_in(AuditLog(tmp_path / "none", pytest.fail, table)) == expected
        assert table.afters[0] == 8


def test_where_the_first_record_takes_too_long_to_find_all_are_read(
    tmp_path: Path, database_url: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statement that looks for it may reach its limit of time."""

    def slow(*_given: object) -> dict[str, int]:
        raise DatabaseError("PostgreSQL took too long")

    with closing(WatchedTable(database_url)) as table:
        monkeypatch.setattr(table, "starts", slow)
        assert found_in(AuditLog(tmp_path / "none", pytest.fail, table)) == expected
        assert table.afters[0] == 8
