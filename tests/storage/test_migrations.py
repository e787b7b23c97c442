"""The migrations of PostgreSQL: each is applied once, however many processes migrate."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing

import pytest

from ollama_gateway.storage.database import DatabaseError
from ollama_gateway.storage.migrations import Migration, check_schema, migrate, migrations
from ollama_gateway.storage.postgres import Database
from tests.support.postgres_server import PostgresServer
from tests.support.threads import at_once

NEWEST = len(migrations())
MORE = (*migrations(), Migration(NEWEST + 1, "more", "CREATE TABLE more (x integer);"))
"""What a later version would know."""


@pytest.fixture
def name(postgres: PostgresServer) -> Iterator[str]:
    """An empty database."""
    with postgres.fresh_database("template0") as name:
        yield name


@pytest.fixture
def database(postgres: PostgresServer, name: str) -> Iterator[Database]:
    """The empty database."""
    with closing(Database(postgres.url_of(name))) as opened:
        yield opened


def test_the_files_are_numbered_and_only_add() -> None:
    """The numbers have no gap, and no file removes what a running older version needs."""
    steps = migrations()
    assert [step.version for step in steps] == list(range(1, len(steps) + 1))
    for step in steps:
        assert not re.search(r"\b(DROP|RENAME|TRUNCATE)\b", step.sql, re.IGNORECASE), step


def test_an_empty_database_is_brought_to_this_version(database: Database) -> None:
    """Every step is applied once; a second run does nothing."""
    with pytest.raises(DatabaseError, match=r"version 0, .* run `gatewayctl db migrate`"):
        check_schema(database)
    assert migrate(database) == migrations()
    assert migrate(database) == ()
    check_schema(database)


def test_an_older_schema_names_the_command(database: Database) -> None:
    """A newer program refuses the schema, and its migration applies only the missing steps."""
    migrate(database)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ollama_gateway.storage.migrations.migrations", lambda: MORE)
        with pytest.raises(DatabaseError) as caught:
            check_schema(database)
        assert str(caught.value) == (
            f"the database's schema is version {NEWEST}, this program needs {NEWEST + 1}:"
            " run `gatewayctl db migrate`"
        )
        assert migrate(database) == MORE[NEWEST:]
        check_schema(database)


def test_a_newer_schema_is_an_error(database: Database) -> None:
    """An older program neither uses nor migrates the database, and changes nothing."""
    migrate(database, MORE)
    for use in (check_schema, migrate):
        with pytest.raises(DatabaseError) as caught:
            use(database)
        assert str(caught.value) == (
            f"the database was migrated by a newer version (schema {NEWEST + 1}, this one knows"
            f" {NEWEST}): upgrade this program"
        )


def test_a_step_that_fails_leaves_the_ones_before(database: Database) -> None:
    """Each step is one transaction: a failed one leaves nothing and is applied again."""
    broken = Migration(NEWEST + 1, "more", "CREATE TABLE more (x integer); SELECT 1 / 0;")
    with pytest.raises(DatabaseError, match=r"refuses a statement \(22012\)"):
        migrate(database, (*migrations(), broken))
    check_schema(database)
    assert migrate(database, MORE) == MORE[NEWEST:]


def test_a_table_of_somebody_else_is_in_the_way(postgres: PostgresServer, name: str) -> None:
    """A foreign table stays untouched, and the error names the conflict."""
    postgres.execute("CREATE TABLE gateway_keys (fits integer)", name)
    with closing(Database(postgres.url_of(name))) as database:
        with pytest.raises(DatabaseError, match="a table of the same name already"):
            migrate(database)
        with pytest.raises(DatabaseError, match="version 0"):
            check_schema(database)
    assert postgres.execute("SELECT * FROM gateway_keys", name) == []


def test_a_role_that_may_make_no_tables_is_told_so(postgres: PostgresServer, name: str) -> None:
    """The error names the role's rights, not a table."""
    with closing(Database(postgres.make_role("reader", name))) as database:
        postgres.execute("REVOKE CREATE ON SCHEMA public FROM public", name)
        with pytest.raises(DatabaseError, match="lacks a right"):
            migrate(database)


def test_of_many_at_once_one_takes_each_step(postgres: PostgresServer, name: str) -> None:
    """The others wait and find the step applied; none fails."""

    def run() -> list[int]:
        with closing(Database(postgres.url_of(name))) as database:
            return [step.version for step in migrate(database, MORE)]

    taken = [version for found in at_once([run] * 6, DatabaseError) for version in found]  # type: ignore[attr-defined]
    assert sorted(taken) == [step.version for step in MORE]
