"""All journals as one audit log: its order, its newest records, and damaged files."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.ledger.read import segment
from ollama_gateway.ledger.read.audit_log import AuditLog, merged, start_at_newest
from ollama_gateway.ledger.read.filtering import ALL, Filter, TimeRange
from tests.ledger.audit_logs import (
    MemorySegment,
    all_ids,
    all_records,
    began,
    changed,
    ended,
    still_open,
    written,
)
from tests.ledger.records import BEGAN, journal
from tests.support.spoilt import a_directory, a_pipe, executed, garbage


def test_journals_are_one_audit_log_in_the_order_of_the_ends(tmp_path: Path) -> None:
    """The order is the same whichever process wrote a record."""
    written(
        tmp_path,
        [ended("a", 0), ended("c", 2), ended("d", 3)],
        [ended("b", 1), ended("e", 0, took=9)],
        [],
    )

    assert all_ids(tmp_path) == ["a", "b", "c", "d", "e"]


def test_a_killed_request_stands_where_its_record_was_written(tmp_path: Path) -> None:
    """Its end is not known, and its record stands after those that had ended before."""
    written(tmp_path, [ended("a", 5), began("k", 0)])
    journal(tmp_path / "journal-0.db").close()

    records = all_records(tmp_path)

    assert [(record.request_id, record.document["outcome"]) for record in records] == [
        ("a", "completed"),
        ("k", "killed"),
    ]


def test_a_long_log_is_read_page_by_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every record comes once, whatever the size of a page."""
    monkeypatch.setattr(segment, "FIRST", 3)
    monkeypatch.setattr(segment, "PAGE", 3)
    names = [f"r{number:02}" for number in range(20)]
    written(tmp_path, *([ended(n, int(n[1:])) for n in names[half::2]] for half in range(2)))

    assert all_ids(tmp_path) == names


def test_only_a_range_of_beginnings(tmp_path: Path) -> None:
    """The range includes its first moment and excludes its last."""
    written(tmp_path, [ended(f"r{second}", second) for second in range(9)])
    begin, end = (BEGAN + timedelta(seconds=second) for second in (3, 6))

    assert all_ids(tmp_path, time_range=TimeRange(begin, end)) == ["r3", "r4", "r5"]
    assert all_ids(tmp_path, time_range=TimeRange(begin, None))[0] == "r3"
    assert all_ids(tmp_path, time_range=TimeRange(None, end))[-1] == "r5"


def test_what_is_written_while_it_is_read(tmp_path: Path) -> None:
    """Records of a living process appear at once; reading goes on from where it was."""
    with closing(still_open(tmp_path, ended("a"), began("r"))) as living:
        source = AuditLog(tmp_path, pytest.fail)
        assert [record.request_id for record in source.records(ALL)] == ["a"]
        assert [record.request_id for record in source.running()] == ["r"]

        living.commit([ended("b")])
        written(tmp_path, [ended("c", 5)])

        assert [record.request_id for record in source.records(ALL)] == [
            "b",
            "c",
        ]


def test_a_journal_whose_records_are_dropped_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropped records are skipped; the others come."""
    monkeypatch.setattr(segment, "FIRST", 2)
    monkeypatch.setattr(segment, "PAGE", 2)
    with closing(still_open(tmp_path, *(ended(f"r{n}", 60 * n) for n in range(9)))) as living:
        records = AuditLog(tmp_path, pytest.fail).records(ALL)
        assert next(records).request_id == "r0"
        living.trim(BEGAN.timestamp() + 60 * 5)

        assert [record.request_id for record in records] == ["r1", "r5", "r6", "r7", "r8"]


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=12), max_size=4),
    st.integers(0, 30),
)
def test_the_newest_are_the_last_ones(layout: list[list[tuple[int, bool]]], count: int) -> None:
    """Starting at the newest gives the end of the whole log, as many as are wanted."""

    def segments() -> list[MemorySegment]:
        return [MemorySegment.of(f"{n}", sorted(records)) for n, records in enumerate(layout)]

    wanted = Filter(outcome="completed")
    whole = list(merged(segments(), wanted))
    started = segments()
    start_at_newest(started, wanted, count)
    newest = list(merged(started, wanted))

    assert len(newest) == min(count, len(whole))
    assert sorted(record.ended for record in newest) == [
        record.ended for record in whole[len(whole) - len(newest) :]
    ]


def test_a_copy_of_a_journal_is_not_read_twice(tmp_path: Path) -> None:
    """Of two files with one identity the longer one is read."""
    written(tmp_path, [ended("a")])
    whole = (tmp_path / "journal-0.db").read_bytes()
    (tmp_path / "journal-00-old.db").write_bytes(whole)
    (tmp_path / "journal-7.db").write_bytes(whole)
    with closing(journal(tmp_path / "journal-0.db")) as opened:
        opened.commit([ended("b", 1)])

    assert all_ids(tmp_path) == ["a", "b"]


def test_a_journal_that_is_just_being_made_is_no_fault(tmp_path: Path) -> None:
    """It has no records yet."""
    written(tmp_path, [ended("a")])
    (tmp_path / "journal-1.db").touch()

    assert all_ids(tmp_path) == ["a"]


def test_a_directory_that_is_not_there_has_no_journals(tmp_path: Path) -> None:
    """Before the first start there are none."""
    assert all_ids(tmp_path / "nowhere") == []


def cut(path: Path) -> None:
    """Write a journal of which only the beginning is there."""
    written(path.parent / "other", [ended(f"r{n}") for n in range(500)])
    whole = (path.parent / "other" / "journal-0.db").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    "spoil",
    [
        garbage,
        executed("CREATE TABLE cats (name)"),
        executed("PRAGMA user_version = 99"),
        cut,
        a_directory,
        a_pipe,
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_the_others_are_read(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """One line names it, however often it is read."""
    written(tmp_path, [], [ended("a")])
    (tmp_path / "journal-0.db").unlink()
    spoil(tmp_path / "journal-0.db")
    faults: list[str] = []
    source = AuditLog(tmp_path, faults.append)
    records = [record.request_id for _ in range(2) for record in source.records(ALL)]

    assert [name for name in records if not name.startswith("r")] == ["a"]
    [fault] = faults
    assert str(tmp_path / "journal-0.db") in fault
    assert "\n" not in fault


@pytest.mark.parametrize("value", ["[1", b"\xff\xfe", b"{}", 7])
def test_a_damaged_record_is_named_and_the_others_are_read(tmp_path: Path, value: object) -> None:
    """One line names its file and number."""
    written(tmp_path, [ended(name, second) for second, name in enumerate("abc")])
    changed(tmp_path / "journal-0.db", "UPDATE rows SET document = ? WHERE seq = 2", value)
    faults: list[str] = []

    assert all_ids(tmp_path, faults) == ["a", "c"]
    assert faults == [f"{tmp_path}/journal-0.db: record 2 is not as this program writes it"]


def test_reading_changes_nothing(tmp_path: Path) -> None:
    """No byte of a journal changes, and its lock stays free."""
    written(tmp_path, [ended("a"), began("r")])
    path = tmp_path / "journal-0.db"
    before = (path.read_bytes(), path.stat().st_mtime_ns)

    assert all_ids(tmp_path) == ["a"]
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert not path.with_suffix(".lock").exists()


def test_a_slow_reader_does_not_keep_the_log_from_being_reused(tmp_path: Path) -> None:
    """Between two pages nothing is held, so the write-ahead log can be emptied."""
    with closing(still_open(tmp_path, *(ended(f"r{n}") for n in range(2000)))):
        records = AuditLog(tmp_path, pytest.fail).records(ALL)
        next(records)
        with closing(sqlite3.connect(tmp_path / "journal-9.db")) as connection:
            [(is_busy, _, _)] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

        assert is_busy == 0
        assert len(list(records)) == 1999
