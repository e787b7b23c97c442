"""Statements that PostgreSQL ends or refuses, and their errors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from ollama_gateway.storage.postgres import Database
from tests.smoke.fleet import PATIENCE
from tests.support.postgres_connection import SECRET, SHORT, ask, failure
from tests.support.postgres_server import PostgresServer


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database for this test alone."""
    with closing(Database(database_url)) as opened:
        yield opened


def test_a_slow_statement_a_held_lock_and_an_idle_block_end(database_url: str) -> None:
    """The server ends each after its own limit, and each has its own line."""
    with (
        closing(Database(database_url, SHORT)) as database,
        closing(Database(database_url)) as other,
    ):
        slow = failure(lambda: ask(database, "SELECT pg_sleep(30)"))
        with other.transaction() as cursor:
            cursor.execute("LOCK TABLE gateway_keys")
            locked = failure(lambda: ask(database, "SELECT count(*) FROM gateway_keys"))
        assert ask(database, "SELECT count(*) FROM gateway_keys") == 0

        def wait_in_it() -> None:
            with database.transaction() as cursor:
                pid = cursor.connection.info.backend_pid
                alive = f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}"  # noqa: S608
                deadline = time.monotonic() + PATIENCE
                while ask(other, alive):
                    assert time.monotonic() < deadline, "it was left idle"
                cursor.execute("SELECT 1")

        idle = failure(wait_in_it)
    assert [(str(error), error.is_away) for error in (slow, locked)] == [
        ("PostgreSQL took too long", True),
        ("PostgreSQL: something else held a lock for too long", True),
    ]
    assert idle.is_away


def test_a_read_only_server_says_so(postgres: PostgresServer) -> None:
    """As a standby does; the next try uses a new connection, perhaps to another server."""
    with postgres.fresh_database() as name:
        postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        with closing(Database(postgres.url_of(name))) as database:
            error = failure(lambda: ask(database, "CREATE TABLE t (x integer)"))
            assert (str(error), error.is_away) == ("PostgreSQL is read-only", True)
            assert ask(database) == 1


def test_what_a_statement_held_is_in_no_error(database: Database) -> None:
    """No error holds the value, the column, or the server's text."""
    ask(database, "CREATE TABLE t (x text UNIQUE)")
    insert = f"INSERT INTO t VALUES ('{SECRET}'), ('{SECRET}')"  # noqa: S608 - our own
    assert str(failure(lambda: ask(database, insert))) == "PostgreSQL refuses a statement (23505)"
    error = failure(lambda: ask(database, f"SELECT '{SECRET}'::integer"))
    assert (str(error), error.is_away) == ("PostgreSQL refuses a statement (22P02)", False)


def test_a_value_that_cannot_be_read_is_an_error_too(database: Database) -> None:
    """A time out of Python's range is an error."""
    with closing(database):
        error = failure(lambda: ask(database, "SELECT 'infinity'::timestamptz"))
    assert str(error) == "PostgreSQL refuses a statement (no code)"


def test_connections_may_run_out(postgres: PostgresServer) -> None:
    """A server without free connections counts as an outage."""
    with postgres.fresh_database() as name:
        postgres.execute(
            "DROP ROLE IF EXISTS crowded; CREATE ROLE crowded LOGIN CONNECTION LIMIT 1"
        )
        url = postgres.socket_url_of(name, "crowded")
        with closing(Database(url)) as first, closing(Database(url)) as second:
            assert ask(first) == 1
            assert failure(lambda: ask(second)).is_away
            assert ask(first) == 1
