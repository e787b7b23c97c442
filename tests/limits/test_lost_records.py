"""Budgets of a gateway that lost its disk, and of the Redis beside it, from rows in PostgreSQL."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest

from ollama_gateway.ledger.chain import Link
from ollama_gateway.ledger.document import document_of, to_text
from ollama_gateway.ledger.postgres import AuditTable
from ollama_gateway.ledger.spent import spent_this_month
from ollama_gateway.limits import open_limits
from ollama_gateway.limits.quota import Quota
from ollama_gateway.limits.usage_journal import open_usage_journal
from ollama_gateway.metrics import Metrics
from ollama_gateway.storage.database import DatabaseError
from tests.ledger.records import record
from tests.limits.spent import TODAY, now
from tests.support.postgres_server import PostgresServer

ANY_LIMITS = Quota(tokens_per_day=1000, tokens_per_month=9000)


def records(*spent: tuple[str | None, int, datetime]) -> list[Link]:
    """Rows by whose record has them, their tokens and when they began."""
    found = []
    for seq, (usage_journal, tokens, began) in enumerate(spent, 1):
        whole = attrs.evolve(
            record(f"r{seq}"),
            usage_journal=usage_journal,
            prompt_tokens=tokens - 1,
            completion_tokens=1,
            started_at=began,
        )
        found.append(Link(seq, whole.request_id, to_text(document_of(whole)), b"hash"))
    return found


def test_rows_say_what_was_spent_this_month(database_url: str) -> None:
    """By record, key and day; what no budget was charged for and older months are left out."""
    today, december = now(), datetime(2025, 12, 31, 23, 59, tzinfo=UTC)
    with closing(AuditTable(database_url)) as table:
        table.store(
            "j",
            records(
                ("a", 10, today),
                ("a", 5, today),
                ("a", 3, datetime(2026, 1, 1, tzinfo=UTC)),
                ("b", 7, today),
                (None, 100, today),
                ("a", 100, december),
            ),
        )

    assert spent_this_month(database_url, today) == {
        "a": {"id": {TODAY: 15, TODAY - 29: 3}},
        "b": {"id": {TODAY: 7}},
    }


def test_a_role_that_can_only_insert_is_told_so(
    database_url: str, postgres: PostgresServer
) -> None:
    """Then budgets are rebuilt without PostgreSQL; the error names what lacks."""
    database = database_url.rpartition("/")[2]
    postgres.execute("DROP ROLE IF EXISTS inserter")
    postgres.execute("CREATE ROLE inserter LOGIN PASSWORD 'p'")
    postgres.execute("GRANT INSERT ON gateway_audit TO inserter", database)

    with pytest.raises(DatabaseError, match="lacks a right"):
        spent_this_month(postgres.url_of(database, "inserter", "p"), now())


@pytest.mark.parametrize(("kept", "told", "expected"), [(0, 30, 30), (40, 30, 40), (40, 50, 50)])
async def test_in_process_the_larger_figure_of_a_record_counts(
    tmp_path: Path, kept: int, told: int, expected: int
) -> None:
    """Of what its file has and what rows tell; a record that is gone altogether adds to it."""
    async with open_usage_journal(tmp_path, now=now) as usage_journal:
        identity = usage_journal.identity
        if kept:
            usage_journal.begin("r", "id", TODAY, kept)
            usage_journal.end("r", kept)

    async def elsewhere() -> dict[str, dict[str, dict[int, int]]]:
        return {identity: {"id": {TODAY: told}}, "gone": {"id": {TODAY: 100}}}

    async with open_limits(
        tmp_path, None, ANY_LIMITS, 1, Metrics(), elsewhere=elsewhere, now=now
    ) as limits:
        usage = await limits.store.usage("id")

    assert usage.day == usage.month == 100 + expected
