"""A delay of one process's records on their way to PostgreSQL delays no others."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import psycopg

from ollama_gateway.ledger.flusher import Flusher
from ollama_gateway.ledger.ownership import own_journal
from ollama_gateway.ledger.postgres import AuditTable
from ollama_gateway.ledger.writer import JournalWriter
from ollama_gateway.storage.batcher import in_thread
from tests.ledger.records import KEY, final, ids, journal
from tests.ledger.test_flusher import machine
from tests.support.patience import until

T = TypeVar("T")


def leave(directory: Path) -> None:
    """Leave the journal of a process that has ended."""
    with closing(journal(directory / "journal-9.db")) as dead:
        dead.commit([final("dead")])


async def test_a_journal_that_is_written_as_fast_as_it_moves_holds_up_no_other(
    tmp_path: Path, database_url: str
) -> None:
    """Each look ends, so that unowned journals come next and a failure is over."""
    numbers = itertools.count()

    async with machine(tmp_path, database_url, pause=0.001) as one:

        async def growing(work: Callable[[], T], /) -> T:
            number = next(numbers)
            one.writer.journal.commit([final(f"more{number}")])
            if number == 0:
                raise RuntimeError("can't start new thread")
            return await in_thread(work)

        one.flusher.runner = growing
        await until(lambda: one.flusher.failure is not None)
        leave(tmp_path)
        await until(lambda: "dead" in one.arrived() and one.flusher.failure is None)


async def test_a_failure_is_over_with_the_first_batch(tmp_path: Path, database_url: str) -> None:
    """That holds however many records are left."""
    failures: list[str | None] = []

    async def noting(work: Callable[[], T], /) -> T:
        failures.append(flusher.failure)
        return await in_thread(work)

    with (
        own_journal(tmp_path, is_strict=False, key=KEY) as owned,
        closing(AuditTable(database_url)) as table,
    ):
        flusher = Flusher(JournalWriter(owned, is_strict=False), table, noting, KEY)
        flusher._failure = "PostgreSQL is away"
        owned.commit([final(f"a{number}") for number in range(2500)])
        await flusher.flush()

    assert failures[:2] == ["PostgreSQL is away"] * 2
    assert failures[2:] == [None] * 4


async def test_a_record_of_ours_that_postgresql_refuses_holds_up_no_other(
    tmp_path: Path, database_url: str
) -> None:
    """It stays in the journal, and the failure names it."""
    with psycopg.connect(database_url) as connection:
        connection.execute("ALTER TABLE gateway_audit ADD CHECK (request_id <> 'mine') NOT VALID")
    async with machine(tmp_path, database_url, pause=0.001) as one:
        one.add("mine")
        await until(lambda: one.flusher.failure is not None)
        leave(tmp_path)
        await until(lambda: one.arrived() == ["dead"])
        assert "23514" in (one.flusher.failure or "")

    assert ids(one.writer.journal.path) == ["mine"]
