"""The sums of months whose records retention has dropped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import pytest

from ollama_gateway.ledger.daily_sums import count_batch, empty
from ollama_gateway.ledger.postgres import AuditTable
from ollama_gateway.storage.postgres import Database
from tests.ledger.summed import ask, expected, found_differences, link, links, summed

NOW = datetime(2026, 1, 15, tzinfo=UTC)
JANUARY = "gateway_audit_2026_01"
MONTH = 31 * 24
"""Hours."""


@pytest.fixture
def table(database_url: str) -> Iterator[AuditTable]:
    """Open the table in a database of the test's own, with months from January on."""
    with closing(AuditTable(database_url)) as opened:
        opened.make_partitions(NOW)
        yield opened


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Open the same database to count records."""
    with closing(Database(database_url)) as opened:
        yield opened


def test_sums_outlive_their_records(
    table: AuditTable, database: Database, database_url: str
) -> None:
    """Usage stays the same when a month is dropped, and when the sums are rebuilt."""
    given = [*links(range(1, 9)), link(9, MONTH)]
    table.store("j", given)

    assert table.drop_partition(JANUARY).records == 8

    assert summed(database_url) == expected(given)
    assert found_differences(database_url) == []
    empty(database)
    assert summed(database_url) is None
    while count_batch(database) is not None:
        pass
    assert summed(database_url) == expected(given)
    assert found_differences(database_url) == []


def test_a_record_that_arrives_late_is_counted(table: AuditTable, database_url: str) -> None:
    """A record of a dropped month adds to its sums, and can be compared with them."""
    given = links(range(1, 9))
    table.store("j", given)
    table.drop_partition(JANUARY)
    late = [link(9), link(10, key_id="k1")]

    table.store("j", late)

    assert summed(database_url) == expected([*given, *late])
    assert found_differences(database_url) == []


def test_a_month_is_counted_before_it_is_dropped(
    table: AuditTable, database: Database, database_url: str
) -> None:
    """A drop while older records are being counted loses and doubles none."""
    given = [*links(range(1, 20)), *(link(seq, MONTH) for seq in range(20, 30))]
    table.store("j", given)
    empty(database)
    count_batch(database, 5)

    table.drop_partition(JANUARY)

    while count_batch(database, 5) is not None:
        pass

    assert summed(database_url) == expected(given)
    assert found_differences(database_url) == []


def test_a_month_that_is_made_late_is_counted_once(database_url: str) -> None:
    """Records that move from the default partition to their month's stay counted."""
    given = links(range(1, 20))
    with closing(AuditTable(database_url)) as table:
        table.store("j", given)
        table.make_partitions(NOW)

    assert summed(database_url) == expected(given)
    assert found_differences(database_url) == []


@pytest.mark.parametrize(
    ("edit", "requests", "tokens"),
    [
        ("UPDATE gateway_audit_sums SET requests = 7 WHERE key_id = 'k1'", (7, 1), (2, 2)),
        ("UPDATE gateway_audit_sums SET cached_tokens = 7 WHERE key_id = 'k1'", (1, 1), (2, 2)),
        ("UPDATE gateway_audit_sums SET model = 'm9' WHERE key_id = 'k1'", (1, 1), (2, 2)),
        ("DELETE FROM gateway_audit_sums WHERE key_id = 'k1'", (0, 1), (0, 2)),
        ("DELETE FROM gateway_audit WHERE key_id = 'k1'", (1, 0), (2, 0)),
    ],
)
def test_an_edit_is_found(
    table: AuditTable, database_url: str, edit: str, requests: tuple[int, int], tokens: object
) -> None:
    """The day and the key are named, whichever side was edited."""
    table.store("j", [link(1, key_id="k1", key_name="alice"), link(2, key_id="k2")])
    ask(database_url, edit)

    [found] = found_differences(database_url)

    assert (found.day, found.key_id, found.key_name) == ("2026-01-02", "k1", "alice")
    assert (found.requests, found.tokens) == (requests, tokens)
