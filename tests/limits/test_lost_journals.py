"""Budgets of a gateway that lost its disk, and of its Redis, from audit records in PostgreSQL."""

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
from ollama_gateway.limits.opening import open_limits
from ollama_gateway.limits.quota import Quota
from ollama_gateway.limits.usage_journal import open_usage_journal
from ollama_gateway.metrics import Metrics
from ollama_gateway.storage.database import DatabaseError
from tests.ledger.records import record
from tests.limits.spent import TODAY, now
from tests.support.postgres_server import PostgresServer

ANY_LIMITS = Quota(tokens_per_day=1000, tokens_per_month=9000)


def records(*spent: tuple[str | None, int, datetime]) -> list[Link]:
    """Make audit records from their usage journals, tokens and start times."""
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


def test_audit_records_sum_up_this_month(database_url: str) -> None:
    """Sums are by journal, key and day; older records and those without a budget are left out."""
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


def test_a_role_that_can_only_insert_is_reported(
    database_url: str, postgres: PostgresServer
) -> None:
    """Budgets are then rebuilt without PostgreSQL, and the error names the missing right."""
    database = database_url.rpartition("/")[2]
    url = postgres.make_role("inserter", database, "INSERT ON gateway_audit")
    with pytest.raises(DatabaseError, match="lacks a right"):
        spent_this_month(url, now())


@pytest.mark.parametrize(
    ("in_journal", "in_records", "expected"), [(0, 30, 30), (40, 30, 40), (40, 50, 50)]
)
async def test_in_process_the_larger_figure_of_a_journal_counts(
    tmp_path: Path, in_journal: int, in_records: int, expected: int
) -> None:
    """A journal in both sources counts with the larger figure; a lost one adds to the others."""
    async with open_usage_journal(tmp_path, now=now) as usage_journal:
        identity = usage_journal.identity
        if in_journal:
            usage_journal.begin("r", "id", TODAY, in_journal)
            usage_journal.end("r", in_journal)

    async def elsewhere() -> dict[str, dict[str, dict[int, int]]]:
        return {identity: {"id": {TODAY: in_records}}, "gone": {"id": {TODAY: 100}}}

    async with open_limits(
        tmp_path, None, ANY_LIMITS, 1, Metrics(), elsewhere=elsewhere, now=now
    ) as limits:
        usage = await limits.store.usage("id")

    assert usage.day == usage.month == 100 + expected
