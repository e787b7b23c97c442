"""The months of the audit log in PostgreSQL: made and dropped by its clock, without blocking."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import attrs
import psycopg
import pytest
import structlog.testing

from ollama_gateway.ledger.flusher import Flusher
from ollama_gateway.ledger.journal import first_records
from ollama_gateway.ledger.ownership import own_journal
from ollama_gateway.ledger.partitions import Partitions
from ollama_gateway.ledger.postgres import UPKEEP, AuditTable
from ollama_gateway.ledger.read.stored import AuditTableReader
from ollama_gateway.ledger.retention import DAY
from ollama_gateway.ledger.writer import JournalWriter, write_journal
from ollama_gateway.services import running
from ollama_gateway.storage.batcher import in_thread
from ollama_gateway.storage.database import DatabaseError
from tests.ledger.clocks import KEEP, NOW, Time, days_ago, entries
from tests.ledger.records import KEY, ids, record
from tests.support.patience import until
from tests.support.postgres_connection import UNHURRIED
from tests.support.postgres_server import PostgresServer
from tests.support.threads import at_once

OLD = datetime.fromtimestamp(days_ago(100), UTC)
"""In an expired month."""


@attrs.define
class Fleet:
    """A process with a journal, and the partitions in PostgreSQL."""

    writer: JournalWriter
    partitions: Partitions
    url: str

    def ask(self, sql: str) -> list[Any]:
        """Return the rows of a query."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(sql.encode()).fetchall()

    @property
    def records(self) -> int:
        """How many records are in PostgreSQL."""
        return int(self.ask("SELECT count(*) FROM gateway_audit")[0][0])

    @property
    def months(self) -> set[str]:
        """The partitions, without the default one."""
        found = self.ask(
            "SELECT inhrelid::regclass::text FROM pg_inherits JOIN pg_class"
            " ON pg_class.oid = inhparent WHERE relname = 'gateway_audit'"
        )
        return {name for (name,) in found} - {"gateway_audit_default"}

    def store(self, *prefixes: str, days: float) -> None:
        """Move records of that age to PostgreSQL and out of the journal."""
        journal = self.writer.journal
        for prefix in prefixes:
            journal.commit(entries(prefix, 3, days))
        with closing(AuditTable(self.url)) as table:
            moved = first_records(journal.path, 99)
            table.store(journal.identity, moved)
            journal.drop(moved[-1])


@asynccontextmanager
async def fleet(directory: Path, url: str, time: Time) -> AsyncIterator[Fleet]:
    """Open a process with old records, and with records of today from before its start."""
    async with AsyncExitStack() as stack:
        owned = stack.enter_context(own_journal(directory, is_strict=False, key=KEY))
        writer = JournalWriter(owned, is_strict=False)
        table = stack.enter_context(closing(AuditTable(url, UPKEEP)))
        table.make_partitions(OLD)
        before = Fleet(writer, Partitions(owned, table, KEEP, in_thread), url)
        before.store("old", days=100)
        before.store("today", days=0.1)
        await stack.enter_async_context(write_journal(writer))
        partitions = Partitions(owned, table, KEEP, in_thread, time.clocks, min_pause=0.01)
        yield Fleet(writer, partitions, url)


async def test_months_are_made_and_dropped_by_the_clock_of_postgresql(
    tmp_path: Path, database_url: str
) -> None:
    """A drop is logged with its figures, and leaves a checkpoint."""
    async with fleet(tmp_path, database_url, Time()) as one:
        assert f"{OLD:gateway_audit_%Y_%m}" in one.months
        with structlog.testing.capture_logs() as lines:
            await one.partitions.look_after()

        now = datetime.now(UTC)
        assert {f"{now:gateway_audit_%Y_%m}"} < one.months
        assert f"{OLD:gateway_audit_%Y_%m}" not in one.months
        assert one.records == 3
    dropped = [line for line in lines if line["event"] == "audit rows past their time dropped"]
    [line] = [line for line in dropped if line["rows"]]
    assert (line["log_level"], line["partition"], line["rows"]) == (
        "warning",
        f"{OLD:gateway_audit_%Y_%m}",
        3,
    )
    assert line["since"].startswith(f"{OLD:%Y-%m-%d}")
    assert {"until", "clock", "database_clock", "keep_days"} < line.keys()
    with closing(AuditTableReader(database_url)) as records:
        assert [checkpoint.seq for checkpoint in records.checkpoints().values()] == [3]


@pytest.mark.parametrize("days", [500, -500, 1.1])
async def test_a_gateway_whose_clock_is_wrong_drops_nothing(
    tmp_path: Path, database_url: str, days: float
) -> None:
    """Its months still follow PostgreSQL's clock; why old ones are kept is logged once."""
    async with fleet(tmp_path, database_url, Time(NOW + days * DAY)) as one:
        with structlog.testing.capture_logs() as lines:
            await one.partitions.look_after()
            await one.partitions.look_after()

        assert f"{datetime.now(UTC):gateway_audit_%Y_%m}" in one.months
        assert (f"{OLD:gateway_audit_%Y_%m}" in one.months, one.records) == (True, 6)
    [line] = [line for line in lines if "kept" in line["event"]]
    assert line["cause"] == "the clock and the database's disagree"
    assert f"{OLD:gateway_audit_%Y_%m}" in line["partitions"]


@pytest.mark.parametrize("days", [500, 2])
async def test_a_machine_whose_clocks_are_wrong_together_drops_nothing(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, days: float
) -> None:
    """With PostgreSQL on the gateway's machine, the last record from before disproves the clock."""
    wrong = NOW + days * DAY
    monkeypatch.setattr(AuditTable, "now", lambda _: datetime.fromtimestamp(wrong, UTC))
    async with fleet(tmp_path, database_url, Time(wrong)) as one:
        one.store("wrong", days=-days)
        await one.partitions.look_after()

        assert (f"{OLD:gateway_audit_%Y_%m}" in one.months, one.records) == (True, 9)


async def test_one_record_from_the_future_delays_nothing(tmp_path: Path, database_url: str) -> None:
    """Once another record is the last, dropping goes on."""
    async with fleet(tmp_path, database_url, Time()) as one:
        one.store("future", days=-3650)
        await one.partitions.look_after()
        assert one.records == 9
        one.store("now", days=0)
        await one.partitions.look_after()

        assert one.records == 9
        assert f"{OLD:gateway_audit_%Y_%m}" not in one.months


@pytest.fixture
def reader(database_url: str) -> Iterator[Any]:
    """Open a transaction that reads the table and does not end."""
    with closing(psycopg.connect(database_url)) as connection:
        connection.execute("SELECT count(*) FROM gateway_audit").fetchone()
        yield connection


async def test_records_move_while_a_reader_waits(
    tmp_path: Path, database_url: str, reader: Any
) -> None:
    """A month that cannot be attached delays no record, and is made when the reader has ended."""
    async with AsyncExitStack() as stack:
        owned = stack.enter_context(own_journal(tmp_path, is_strict=False, key=KEY))
        writing = write_journal(JournalWriter(owned, is_strict=False))
        writer = await stack.enter_async_context(writing)
        tables = [
            stack.enter_context(closing(AuditTable(database_url, *timeouts)))
            for timeouts in ((), (UPKEEP,))
        ]
        partitions = Partitions(owned, tables[1], KEEP, in_thread, min_pause=0.01)
        flusher = Flusher(writer, tables[0], in_thread, KEY)
        one = Fleet(writer, partitions, database_url)
        await stack.enter_async_context(running(partitions.watch))
        await stack.enter_async_context(running(flusher.watch))
        for number in range(10):
            writer.close(record(f"r{number}"))
        await until(lambda: one.records == 10 and not ids(owned.path))
        assert (flusher.failure, one.months) == (None, set())
        reader.rollback()
        await until(lambda: len(one.months) == 3)

    assert one.records == 10


def test_two_owners_at_once_are_no_error(database_url: str) -> None:
    """One of them makes a month, and the other one finds it."""
    with ExitStack() as stack:
        tables = [stack.enter_context(closing(AuditTable(database_url, UNHURRIED))) for _ in "abcd"]
        for table in tables:
            table.now()  # connected
        month = datetime(2026, 1, 15, tzinfo=UTC)
        owners = [partial(table.make_partitions, month) for table in tables]
        made = [name for found in at_once(owners, DatabaseError) for name in found]  # type: ignore[attr-defined]

    assert sorted(made) == [f"gateway_audit_2026_0{month}" for month in (1, 2, 3)]


async def test_an_owner_of_an_older_version_at_once_is_no_error(database_url: str) -> None:
    """It takes no advisory lock, so PostgreSQL reports that the table exists (23505)."""
    made: list[str] = []
    with (
        closing(AuditTable(database_url, UNHURRIED)) as table,
        closing(psycopg.connect(database_url)) as older,
    ):
        older.execute("CREATE TABLE gateway_audit_2026_01 (LIKE gateway_audit INCLUDING ALL)")

        async def make() -> None:
            made.extend(
                await in_thread(lambda: table.make_partitions(datetime(2026, 1, 15, tzinfo=UTC)))
            )

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(make)
            with closing(psycopg.connect(database_url)) as watching:
                await until(lambda: _waits(watching))
            older.execute(
                "ALTER TABLE gateway_audit ATTACH PARTITION gateway_audit_2026_01"
                " FOR VALUES FROM ('2026-01-01T00:00:00Z') TO ('2026-02-01T00:00:00Z')"
            )
            older.commit()

    assert made == ["gateway_audit_2026_02", "gateway_audit_2026_03"]


def _waits(watching: psycopg.Connection[Any]) -> bool:
    [(count,)] = watching.execute(
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND database ="
        " (SELECT oid FROM pg_database WHERE datname = current_database())"
        " OR NOT granted AND locktype = 'transactionid'"
    ).fetchall()
    watching.rollback()
    return bool(count)


def test_a_role_that_is_not_the_owner_is_logged_once(
    postgres: PostgresServer, database_url: str, tmp_path: Path
) -> None:
    """That is logged once, as it is no failure."""
    database = database_url.rpartition("/")[2]
    url = postgres.make_role("adder", database, "INSERT ON gateway_audit")

    async def look_twice() -> None:
        with (
            own_journal(tmp_path, is_strict=False, key=KEY) as owned,
            closing(AuditTable(url, UPKEEP)) as table,
        ):
            partitions = Partitions(owned, table, KEEP, in_thread)
            assert await partitions.look()
            assert await partitions.look()

    with structlog.testing.capture_logs() as lines:
        anyio.run(look_twice, backend="trio")
    assert [line["event"] for line in lines] == ["audit partitions are left to the owner"]


def test_a_month_is_kept_until_it_has_ended(database_url: str) -> None:
    """A month is dropped as a whole, or not at all."""
    with closing(AuditTable(database_url)) as table:
        table.make_partitions(datetime(2026, 1, 15, tzinfo=UTC))
        february = datetime(2026, 2, 1, tzinfo=UTC)

        assert table.partitions_before(february - timedelta(seconds=1)) == []
        assert table.partitions_before(february) == ["gateway_audit_2026_01"]


async def test_a_journal_that_cannot_be_read_is_tried_again_soon(
    tmp_path: Path, database_url: str
) -> None:
    """An unreadable journal is logged as such, and not left to the table's owner."""
    async with fleet(tmp_path, database_url, Time()) as one:
        one.writer.journal.path.rename(tmp_path / "away")
        with structlog.testing.capture_logs() as lines:
            assert not await one.partitions.look()
    assert [line["event"] for line in lines] == ["audit partitions wait for the journal"]
