"""Indexes that are built while others write into the table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import count

import psycopg
import pytest

from ollama_gateway.storage.database import DatabaseError
from ollama_gateway.storage.migrations import MIGRATION_TIMEOUTS, alone
from ollama_gateway.storage.migrations.indexes import OnlineIndex, build_indexes
from ollama_gateway.storage.postgres import Database
from tests.support.postgres_server import PostgresServer

PARTS = """CREATE TABLE parted (x integer, y integer) PARTITION BY RANGE (x);
    CREATE TABLE "parted 1" PARTITION OF parted FOR VALUES FROM (0) TO (100);
    CREATE TABLE parted_rest PARTITION OF parted DEFAULT;
    INSERT INTO parted SELECT n, n FROM generate_series(1, 200) AS n"""
INDEX = OnlineIndex("parted_by_y", "parted", "by_y", "y")
STATES = """SELECT relname, indisvalid FROM pg_index JOIN pg_class ON oid = indexrelid
    WHERE relname LIKE 'parted%' ORDER BY 1"""
WHOLE = [("parted 1_by_y", True), ("parted_by_y", True), ("parted_rest_by_y", True)]


@pytest.fixture
def name(postgres: PostgresServer) -> Iterator[str]:
    """A database with a partitioned table."""
    with postgres.fresh_database("template0") as name:
        postgres.execute(PARTS, name)
        yield name


@pytest.fixture
def database(postgres: PostgresServer, name: str) -> Iterator[Database]:
    """The same, opened."""
    with closing(Database(postgres.url_of(name), MIGRATION_TIMEOUTS)) as opened:
        yield opened


def test_every_partition_gets_its_part(
    postgres: PostgresServer, name: str, database: Database
) -> None:
    """The index is valid as a whole, each part is reported, and a second run does nothing."""
    lines: list[str] = []

    assert build_indexes(database, lines.append, [INDEX]) == ["parted_by_y"]

    assert postgres.execute(STATES, name) == WHOLE
    assert lines == [
        "parted_by_y: building the index of parted 1",
        "parted_by_y: building the index of parted_rest",
        "parted: gathering statistics",
    ]
    assert build_indexes(database, lines.append, [INDEX]) == []
    assert len(lines) == 3


def test_what_was_interrupted_is_finished(
    postgres: PostgresServer, name: str, database: Database
) -> None:
    """A part that is missing, invalid or not attached is made good."""
    postgres.execute("CREATE INDEX parted_by_y ON ONLY parted (y)", name)
    postgres.execute('CREATE INDEX "parted 1_by_y" ON "parted 1" (y)', name)
    postgres.execute("INSERT INTO parted_rest VALUES (300, 1), (301, 1)", name)
    with pytest.raises(psycopg.errors.UniqueViolation):
        postgres.execute(
            "CREATE UNIQUE INDEX CONCURRENTLY parted_rest_by_y ON parted_rest (y)", name
        )
    assert ("parted_rest_by_y", False) in postgres.execute(STATES, name)

    assert build_indexes(database, indexes=[INDEX]) == ["parted_by_y"]

    assert postgres.execute(STATES, name) == WHOLE


def test_a_partition_that_is_made_later_has_its_part(
    postgres: PostgresServer, name: str, database: Database
) -> None:
    """Months are made from the parent, so nothing is left for another run."""
    build_indexes(database, indexes=[INDEX])
    postgres.execute("CREATE TABLE parted_more (LIKE parted INCLUDING ALL)", name)
    postgres.execute(
        "ALTER TABLE parted ATTACH PARTITION parted_more FOR VALUES FROM (900) TO (1000)", name
    )

    assert build_indexes(database, indexes=[INDEX]) == []


def test_writers_go_on(postgres: PostgresServer, name: str, database: Database) -> None:
    """An insert is committed at each step that is reported, while the index is being built."""
    numbers = count(1000)

    def write(_line: str) -> None:
        with psycopg.connect(postgres.url_of(name)) as connection:
            connection.execute("SET lock_timeout = '1s'")
            connection.execute("INSERT INTO parted VALUES (%s, 0)", (next(numbers),))

    with alone(postgres.url_of(name)):
        build_indexes(database, write, [INDEX])

    assert postgres.execute("SELECT count(*) FROM parted WHERE y = 0", name) == [(3,)]


def test_one_program_at_a_time(
    postgres: PostgresServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one is refused after a while; when the first has ended, it may go on."""
    monkeypatch.setattr("ollama_gateway.storage.migrations.RETRY_SECONDS", 0.0)
    url = postgres.url_of(name)
    with alone(url), pytest.raises(DatabaseError, match="held a lock for too long"), alone(url):
        pass
    with alone(url):
        pass


def test_a_statement_outside_a_transaction_fails_in_one_line(database: Database) -> None:
    """The error is this program's own, and the connection can be used again."""
    with pytest.raises(DatabaseError, match=r"PostgreSQL refuses a statement \(22012\)") as caught:
        database.run_outside(b"SELECT 1 / 0")
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    database.run_outside(b"VACUUM parted")
    database.close()
    with pytest.raises(DatabaseError, match="is closed"):
        database.run_outside(b"SELECT 1")
