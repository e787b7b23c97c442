"""The daily sums in PostgreSQL: each record counts once, whichever program inserts it and when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial

import psycopg
import pytest

from ollama_gateway.ledger.daily_sums import count_batch, empty
from ollama_gateway.ledger.postgres import AuditTable
from ollama_gateway.ledger.read.filtering import Filter, TimeRange
from ollama_gateway.storage.migrations import migrate, migrations, patiently
from ollama_gateway.storage.postgres import Database
from tests.ledger.records import BEGAN
from tests.ledger.summed import (
    ask,
    expected,
    found_differences,
    link,
    links,
    older_links,
    store_as_older,
    summed,
)
from tests.support.postgres_server import PostgresServer
from tests.support.threads import at_once

BEFORE_SUMS = 3
"""The version of the schema that has no sums."""


@pytest.fixture
def table(database_url: str) -> Iterator[AuditTable]:
    """Open the table in a database of the test's own."""
    with closing(AuditTable(database_url)) as opened:
        yield opened


@pytest.fixture
def older_url(postgres: PostgresServer) -> Iterator[str]:
    """A database as the version before the sums left it."""
    with postgres.fresh_database("template0") as name:
        with closing(Database(postgres.url_of(name))) as database:
            migrate(database, migrations()[:BEFORE_SUMS])
        yield postgres.url_of(name)


def store(url: str, journal: str, numbers: range) -> None:
    """Store records, over a connection of their own."""
    with closing(AuditTable(url)) as table:
        for start in numbers[::10]:
            table.store(journal, links(range(start, min(start + 10, numbers.stop))))


def test_records_are_summed_up_as_they_arrive(table: AuditTable, database_url: str) -> None:
    """A batch that is sent again, alone or with more records, counts its new records."""
    given = links(range(1, 60))
    table.store("j", given[:30])
    table.store("j", given[:30])
    table.store("j", given)

    assert summed(database_url) == expected(given)
    assert found_differences(database_url) == []


def test_an_insert_that_fails_counts_nothing(table: AuditTable, database_url: str) -> None:
    """The sums change in the transaction of the records."""
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO gateway_audit (request_id, started_at, journal, seq, hash, document)"
            " VALUES ('r', now(), 'j', 1, '', '')"
        )
        connection.rollback()

    assert summed(database_url) == {}


def test_values_of_any_length_and_size_are_summed_up(table: AuditTable, database_url: str) -> None:
    """Neither a name of a megabyte nor the largest number stops a record, or joins two groups."""
    long, most = "n" * 2**20, 2**63 - 1
    given = [
        *(link(seq, model=long, key_id=long, prompt_tokens=most) for seq in (1, 2, 3)),
        link(4, model=f"{long}2", key_id=long),
        *(link(seq, end_user=user) for seq, user in enumerate(("", None, "(,", '"', "a,b"), 5)),
    ]

    table.store("j", given)

    assert summed(database_url) == expected(given)


def test_a_moment_that_no_calendar_has_is_summed_up(table: AuditTable, database_url: str) -> None:
    """Records with an unreadable moment, and of the year 10000, count like others."""
    table.store(
        "j", [link(1, started_at="?"), link(2, started_at="9999-12-31T23:59:59.9-01:00"), link(3)]
    )

    days = {group[0] for group in summed(database_url) or ()}
    assert days == {"1970-01-01", "10000-01-01", "2026-01-02"}
    assert found_differences(database_url) == []


@pytest.mark.parametrize(
    ("since", "until"),
    [
        (None, None),
        (0, None),
        (None, 0),
        (20, 50),
        (21, 22),
        (20.94, 44.94),
        (-1000, 1000),
        (44.931944444444444, None),  # at midnight
        (30, 68.931944444444444),
    ],
)
def test_any_time_range_is_summed_up(
    table: AuditTable, database_url: str, since: float | None, until: float | None
) -> None:
    """Days in part are read from the records; hours after the first record's beginning."""
    given = links(range(1, 40))
    table.store("j", given)
    begin, end = (
        None if hours is None else BEGAN + timedelta(hours=hours) for hours in (since, until)
    )

    time_range = TimeRange(begin, end)
    assert summed(database_url, Filter(time_range)) == expected(given, time_range)


def test_a_role_that_can_only_insert_is_enough(postgres: PostgresServer, database_url: str) -> None:
    """It can neither read nor change the sums, nor have its own table taken for theirs."""
    name = database_url.rpartition("/")[2]
    rights = (f"TEMPORARY ON DATABASE {name}", "INSERT ON gateway_audit")
    url = postgres.make_role("writer", name, *rights)
    given = links(range(1, 9))
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TEMPORARY TABLE gateway_audit_sums (x integer)")
        connection.execute(
            "INSERT INTO gateway_audit (request_id, started_at, journal, seq, hash, document)"
            " VALUES ('r', now(), 'other', 1, '', '')"
        )
        connection.rollback()
    store(url, "j", range(1, 9))

    assert summed(database_url) == expected(given)
    for statement in (
        "SELECT * FROM gateway_audit_sums",
        "INSERT INTO gateway_audit_uncounted VALUES ('j', 0, 9)",
        """CREATE TEMPORARY TABLE mine (LIKE gateway_audit);
        CREATE TRIGGER forge AFTER INSERT ON mine REFERENCING NEW TABLE AS arrived
        FOR EACH STATEMENT EXECUTE FUNCTION gateway_audit_count()""",
    ):
        with psycopg.connect(url) as one, pytest.raises(psycopg.errors.InsufficientPrivilege):
            one.execute(statement)


def test_older_records_are_counted_once(older_url: str) -> None:
    """Until the last batch the sums say that they are incomplete; older gateways go on storing."""
    given = older_links(range(1, 60))
    with closing(Database(older_url)) as database:
        store_as_older(older_url, "a", given[:20])
        store_as_older(older_url, "b", given[20:40])
        migrate(database)
        batches = 0
        assert summed(older_url) is None
        while count_batch(database, 7) is not None:
            store_as_older(older_url, "a", given[: 41 + batches])
            store_as_older(older_url, "b", given[: 42 + batches])
            batches += 1

        assert batches > 6
        assert summed(older_url) == expected(given[: 41 + batches])
        assert found_differences(older_url) == []
        assert ask(older_url, "SELECT * FROM gateway_audit_uncounted") == []


def test_readers_of_records_may_read_the_sums(postgres: PostgresServer, older_url: str) -> None:
    """A role that could read the records before the sums came can ask for usage afterwards."""
    url = postgres.make_role("auditor", older_url.rpartition("/")[2], "SELECT ON gateway_audit")
    with closing(Database(older_url)) as database:
        migrate(database)
    store(older_url, "j", range(1, 9))

    assert summed(url) == expected(links(range(1, 9)))
    assert found_differences(url) == []


def test_sums_are_rebuilt_beside_writers(database_url: str) -> None:
    """Whatever several writers and two rebuilds do at once, each record counts once."""

    def rebuild() -> None:
        with closing(Database(database_url)) as database:
            patiently(partial(empty, database))
            while patiently(partial(count_batch, database, 9)) is not None:
                summed(database_url)

    ranges = {"a": range(1, 200), "b": range(200, 400), "c": range(400, 600)}
    store(database_url, "a", ranges["a"])
    ask(database_url, "UPDATE gateway_audit_sums SET requests = 99, model = 'none'")
    assert found_differences(database_url) != []
    writers = [partial(store, database_url, *one) for one in ranges.items()]

    outcomes = at_once([*writers, rebuild, rebuild], Exception)

    assert outcomes == [None] * 5
    assert summed(database_url) == expected(links(range(1, 600)))
    assert found_differences(database_url) == []
