"""The table of a fleet's audit log, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pytest

from ollama_gateway.ledger.chain import ChainFault, Checkpoint, Link, verify
from ollama_gateway.ledger.journal import first_records
from ollama_gateway.ledger.postgres import AuditTable
from ollama_gateway.storage.database import DatabaseError
from tests.ledger.audit_logs import changed
from tests.ledger.records import KEY, final, journal, stored
from tests.support.postgres_server import PostgresServer

NOW = datetime(2026, 1, 15, tzinfo=UTC)
MONTH = 31 * 24 * 60


@pytest.fixture
def table(database_url: str) -> Iterator[AuditTable]:
    """Open the table in a database of the test's own."""
    with closing(AuditTable(database_url)) as opened:
        yield opened


def records(path: Path, *minutes: int) -> list[Link]:
    """Return records of a journal, of that many minutes after 2026-01-02."""
    with closing(journal(path)) as opened:
        opened.commit([final(f"r{minute}", minutes=minute) for minute in minutes])
    return stored(path)


def ask(url: str, sql: str) -> list[Any]:
    """Return the rows of a query."""
    with psycopg.connect(url) as connection:
        return connection.execute(sql.encode()).fetchall()


def links_in(url: str) -> list[Link]:
    """Return the chain of the only journal, as PostgreSQL has it."""
    found = ask(url, "SELECT seq, request_id, document, hash FROM gateway_audit ORDER BY seq")
    return [Link(*record) for record in found]


def test_records_arrive_as_the_journal_had_them(
    table: AuditTable, database_url: str, tmp_path: Path
) -> None:
    """They are the same to the byte, so the chain holds; summed fields are in columns."""
    given = records(tmp_path / "journal-0.db", 1, 2, 3)

    table.store("j", given)

    assert links_in(database_url) == given
    assert verify(Checkpoint(), links_in(database_url), KEY)[1] is None
    [(name, model, outcome, began)] = ask(
        database_url,
        "SELECT key_name, model, outcome, started_at FROM gateway_audit WHERE request_id = 'r1'",
    )
    assert (name, model, outcome) == ("name", "m1:latest", "completed")
    assert began == datetime(2026, 1, 2, 3, 5, 5, tzinfo=UTC)


@pytest.mark.parametrize("damaged", ["one\x00two", b"\xff\xfe"])
def test_invalid_text_moves_as_well(
    table: AuditTable, database_url: str, tmp_path: Path, damaged: str | bytes
) -> None:
    """A NUL or broken UTF-8 in a journal stops no other record, and shows in the chain."""
    given = records(tmp_path / "journal-0.db", 1, 2, 3)
    changed(tmp_path / "journal-0.db", "UPDATE rows SET document = ? WHERE seq = 2", damaged)

    table.store("j", first_records(tmp_path / "journal-0.db", 3))

    found = links_in(database_url)
    assert [found[0], found[2]] == [given[0], given[2]]
    assert verify(Checkpoint(), found, KEY)[1] == ChainFault(2, "r2", "altered")


def test_records_sent_twice_are_stored_once(
    table: AuditTable, database_url: str, tmp_path: Path
) -> None:
    """A batch whose commit was in doubt is repeated, alone or with more records."""
    given = records(tmp_path / "journal-0.db", *range(10))
    table.store("j", given[:5])
    table.store("j", given[:5])
    table.store("j", given)

    assert links_in(database_url) == given


@pytest.mark.parametrize(
    "document",
    [
        "no JSON",
        "[]",
        '{"started_at": "yesterday"}',
        '{"started_at": "2026-01-02T03:04:05"}',
        '{"key_name": "a\\u0000b", "model": "\\ud800", "reason": 5, "outcome": ["x"]}',
        '{"prompt_tokens": "many", "completion_tokens": 99999999999999999999999}',
        '{"prompt_tokens": -1, "completion_tokens": true}',
    ],
)
def test_a_damaged_record_does_not_stop_the_others(
    table: AuditTable, database_url: str, tmp_path: Path, document: str
) -> None:
    """A damaged record is stored as it is, for `audit verify` to name it."""
    first, second = records(tmp_path / "journal-0.db", 1, 2)
    damaged = attrs.evolve(first, document=document)

    table.store("j", [damaged, second])

    assert links_in(database_url) == [damaged, second]


def test_a_role_that_can_only_insert_is_enough(
    postgres: PostgresServer, database_url: str, tmp_path: Path
) -> None:
    """It can read, change and drop nothing; the months need the owner."""
    database = database_url.rpartition("/")[2]
    rights = (f"TEMPORARY ON DATABASE {database}", "INSERT ON gateway_audit")
    url = postgres.make_role("writer", database, *rights)
    given = records(tmp_path / "journal-0.db", 1, 2)
    with closing(AuditTable(url)) as table:
        table.store("j", given)
        table.store("j", given)
        with pytest.raises(DatabaseError) as error:
            table.make_partitions(NOW)

    assert not error.value.is_away
    assert links_in(database_url) == given
    with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("DELETE FROM gateway_audit")


def places(url: str) -> Sequence[tuple[str, str]]:
    """Return the partition of each record."""
    return ask(url, "SELECT request_id, tableoid::regclass::text FROM gateway_audit ORDER BY seq")


def test_months_are_made_ahead(table: AuditTable, database_url: str, tmp_path: Path) -> None:
    """This month and the next two are made, once; other records go to the default partition."""
    made = table.make_partitions(NOW)
    assert made == ["gateway_audit_2026_01", "gateway_audit_2026_02", "gateway_audit_2026_03"]
    assert table.make_partitions(NOW) == []

    table.store("j", records(tmp_path / "journal-0.db", 0, MONTH, 9 * MONTH))

    assert places(database_url) == [
        ("r0", "gateway_audit_2026_01"),
        (f"r{MONTH}", "gateway_audit_2026_02"),
        (f"r{9 * MONTH}", "gateway_audit_default"),
    ]


def test_a_month_that_is_made_late_takes_its_records_from_the_default(
    table: AuditTable, database_url: str, tmp_path: Path
) -> None:
    """No record is lost or doubled on the way."""
    given = records(tmp_path / "journal-0.db", 0, MONTH, 9 * MONTH)
    table.store("j", given)

    table.make_partitions(NOW)
    table.store("j", given)

    assert [place for _, place in places(database_url)] == [
        "gateway_audit_2026_01",
        "gateway_audit_2026_02",
        "gateway_audit_default",
    ]
    assert links_in(database_url) == given


def test_expired_months_are_dropped_and_leave_a_checkpoint(
    table: AuditTable, database_url: str, tmp_path: Path
) -> None:
    """Only whole months that have ended are dropped; the rest of the chain still holds."""
    table.make_partitions(NOW)
    table.store("j", records(tmp_path / "journal-0.db", 0, 1, MONTH, 2 * MONTH))

    assert table.partitions_before(datetime(2026, 1, 31, tzinfo=UTC)) == []
    [name] = table.partitions_before(datetime(2026, 2, 1, tzinfo=UTC))
    dropped = table.drop_partition(name)

    assert (name, dropped.records) == ("gateway_audit_2026_01", 2)
    assert (dropped.since, dropped.until) == ("2026-01-02 03:04:05Z", "2026-01-02 03:05:05Z")

    [(name, seq, digest)] = ask(
        database_url, "SELECT journal, seq, hash FROM gateway_audit_anchors"
    )
    left = links_in(database_url)
    assert (name, seq, [link.seq for link in left]) == ("j", 2, [3, 4])
    assert verify(Checkpoint(seq, digest), left, KEY)[1] is None
