"""Records move to PostgreSQL: outages, lost connections and locks lose and double none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
import attrs
import psycopg
import pytest
import structlog.testing

from ollama_gateway.ledger.audit import open_audit
from ollama_gateway.ledger.flusher import PAUSE, Flusher
from ollama_gateway.ledger.ownership import own_journal
from ollama_gateway.ledger.postgres import AuditTable
from ollama_gateway.ledger.writer import JournalWriter, write_journal
from ollama_gateway.services import SHORTEST_PAUSE, running
from ollama_gateway.storage.batcher import in_thread
from tests.ledger.records import KEY, final, ids, intent, journal, record
from tests.support.patience import until
from tests.support.postgres_server import PostgresServer
from tests.support.spoilt import GARBAGE

T = TypeVar("T")

KILLS = 50
"""How many connections are killed."""


@attrs.define
class Machine:
    """A journal whose records move to PostgreSQL."""

    writer: JournalWriter
    flusher: Flusher
    url: str

    def add(self, *names: str) -> None:
        """Write records of requests that end."""
        for name in names:
            self.writer.close(record(name))

    def arrived(self) -> list[str]:
        """Return the ids of the records in PostgreSQL."""
        with psycopg.connect(self.url) as connection:
            found = connection.execute("SELECT request_id FROM gateway_audit ORDER BY seq")
            return [name for (name,) in found]

    @property
    def is_moved(self) -> bool:
        """Whether no record is on this machine any more."""
        return not self.writer.records_waiting and not ids(self.writer.journal.path)

    async def moved(self) -> list[str]:
        """Wait until all records have moved; return the ids of those in PostgreSQL."""
        await until(lambda: self.is_moved)
        return self.arrived()


@asynccontextmanager
async def machine(directory: Path, url: str, pause: float = PAUSE) -> AsyncIterator[Machine]:
    """Run a journal's writer and its flusher for the length of the block."""
    async with AsyncExitStack() as stack:
        owned = stack.enter_context(own_journal(directory, is_strict=False, key=KEY))
        writer = await stack.enter_async_context(
            write_journal(JournalWriter(owned, is_strict=False))
        )
        table = stack.enter_context(closing(AuditTable(url)))
        flusher = Flusher(writer, table, in_thread, KEY, pause)
        await stack.enter_async_context(running(flusher.watch))
        yield Machine(writer, flusher, url)


def names(prefix: str, count: int) -> list[str]:
    """Return that many request ids."""
    return [f"{prefix}{number}" for number in range(count)]


async def test_records_move_and_leave_the_journal(tmp_path: Path, database_url: str) -> None:
    """All records move, in batches and in order; the journal goes on from its checkpoint."""
    async with machine(tmp_path, database_url) as one:
        one.add(*names("a", 2500))
        assert await one.moved() == names("a", 2500)
        one.add("b")
        assert await one.moved() == [*names("a", 2500), "b"]

    assert one.writer.journal.head.seq == 2501


async def test_what_is_open_stays(tmp_path: Path, database_url: str) -> None:
    """Only finished records move."""
    async with machine(tmp_path, database_url) as one:
        await one.writer.admit(record("open"))
        one.add("ended")
        assert await one.moved() == ["ended"]
        one.add("open")
        assert await one.moved() == ["ended", "open"]


async def test_journals_of_processes_that_have_ended_are_moved_too(
    tmp_path: Path, database_url: str
) -> None:
    """Their open requests were killed; journals of living processes are left alone."""
    with own_journal(tmp_path, is_strict=False, key=KEY) as living:
        living.commit([final("lives")])
        with closing(journal(tmp_path / "journal-1.db")) as dead:
            dead.commit([final("dead"), intent("killed")])
        async with machine(tmp_path, database_url) as one:
            assert one.writer.journal.path.name == "journal-1.db"
            with closing(journal(tmp_path / "journal-2.db")) as dying:
                dying.commit([final("dying"), intent("killed too")])
            await until(lambda: len(one.arrived()) == 4)

        assert sorted(one.arrived()) == ["dead", "dying", "killed", "killed too"]
        assert ids(living.path) == ["lives"]


async def test_an_outage_costs_nothing_but_time(
    own_postgres: PostgresServer, tmp_path: Path
) -> None:
    """Records are still written; when PostgreSQL is back all of them move, each once."""
    async with machine(tmp_path, own_postgres.url_of("migrated")) as one:
        one.add("before")
        await one.moved()
        await anyio.to_thread.run_sync(own_postgres.stop)
        one.add(*names("during", 50))
        await until(lambda: one.flusher.failure is not None and not one.writer.records_waiting)
        assert ids(one.writer.journal.path) == names("during", 50)
        await anyio.to_thread.run_sync(own_postgres.start)
        one.add("after")

        assert await one.moved() == ["before", *names("during", 50), "after"]
        await until(lambda: one.flusher.failure is None)


async def test_a_database_that_hangs_delays_nothing(
    own_postgres: PostgresServer, tmp_path: Path
) -> None:
    """Neither writers nor the end of the process wait for it."""
    async with machine(tmp_path, own_postgres.url_of("migrated")) as one:
        one.add("before")
        await one.moved()
        own_postgres.hang()
        one.add(*names("during", 50))
        await until(lambda: not one.writer.records_waiting)
        assert ids(one.writer.journal.path)[-1] == "during49"
        own_postgres.resume()

        assert await one.moved() == ["before", *names("during", 50)]


@pytest.mark.parametrize("lock", ["ACCESS EXCLUSIVE", "EXCLUSIVE"])
async def test_a_locked_table_is_waited_for(tmp_path: Path, database_url: str, lock: str) -> None:
    """Records stay in the journal, and move when the lock is gone."""
    async with machine(tmp_path, database_url) as one:
        with psycopg.connect(database_url) as other:
            other.execute(f"LOCK TABLE gateway_audit IN {lock} MODE".encode())
            one.add(*names("a", 5))
            await until(lambda: ids(one.writer.journal.path) == names("a", 5))
            await anyio.lowlevel.checkpoint()

        assert await one.moved() == names("a", 5)


async def test_connections_that_are_killed_at_any_moment(
    tmp_path: Path, postgres: PostgresServer, database_url: str
) -> None:
    """Even in the middle of a commit, whose outcome is then unknown, each request has a record."""
    kills = 0
    database = database_url.rpartition("/")[2]
    terminate = f"""SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = '{database}' AND application_name = 'ollama-gateway'"""  # noqa: S608 - ours
    async with machine(tmp_path, database_url, pause=0.001) as one:
        given: list[str] = []
        while kills < KILLS:
            one.add(*(more := names(f"k{len(given)}-", 20)))
            given += more
            await anyio.sleep(
                SHORTEST_PAUSE + kills % 25 * 0.001
            )  # about then they are on their way
            [(killed,)] = await anyio.to_thread.run_sync(postgres.execute, terminate)
            kills += killed
            await one.moved()

        assert sorted(await one.moved()) == sorted(given)


async def test_a_schema_that_is_not_there_yet_is_waited_for(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    """The log names the command to run; nothing is lost."""
    with postgres.fresh_database("template1") as name:
        async with machine(tmp_path, postgres.url_of(name)) as one:
            one.add("a")
            await until(lambda: one.flusher.failure is not None)

        assert "db migrate" in (one.flusher.failure or "")
        assert ids(one.writer.journal.path) == ["a"]


@pytest.mark.parametrize("damaged", ["journal-8.db", "journal-8.lock"])
async def test_a_journal_that_cannot_be_read_holds_up_no_other(
    tmp_path: Path, database_url: str, damaged: str
) -> None:
    """It is named once; all others move, and PostgreSQL is not blamed."""
    for number in (8, 9):
        with closing(journal(tmp_path / f"journal-{number}.db")) as dead:
            dead.commit([final(f"dead{number}")])
    (tmp_path / damaged).unlink(missing_ok=True)
    if damaged.endswith(".lock"):
        (tmp_path / damaged).mkdir()
    else:
        (tmp_path / damaged).write_bytes(GARBAGE)
    with structlog.testing.capture_logs() as lines:
        async with machine(tmp_path, database_url, pause=0.001) as one:
            one.add("mine")
            await until(lambda: len(one.arrived()) == 2 and bool(one.flusher.faults))
            one.add("mine too")
            await until(lambda: len(one.arrived()) == 3)
            assert one.flusher.failure is None
            [fault] = one.flusher.faults

    assert set(one.arrived()) == {"dead9", "mine", "mine too"}
    assert str(tmp_path / damaged) in fault
    told = [line["cause"] for line in lines if line["event"] == "journal left alone"]
    assert told == [fault]


async def test_it_holds_up_no_stop_either(tmp_path: Path, database_url: str) -> None:
    """The records of this process are in PostgreSQL when it has ended."""
    (tmp_path / "journal-9.db").write_bytes(GARBAGE)
    settings = {"is_strict": False, "key": KEY, "keep": 400 * 86_400.0, "runner": in_thread}
    async with open_audit(tmp_path, database_url, **settings) as audit:  # type: ignore[arg-type]
        assert audit.flusher is not None
        async with running(audit.flusher.watch), running(audit.upkeep.watch):
            await until(lambda: bool(audit.faults))
        assert audit.flusher.failure is None
        [fault] = audit.faults
        audit.writer.close(record("mine"))

    assert "journal-9.db" in fault
    assert ids(tmp_path / "journal-0.db") == []
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT request_id FROM gateway_audit").fetchall() == [("mine",)]


async def test_a_record_that_postgresql_refuses_holds_up_its_own_journal_alone(
    tmp_path: Path, database_url: str
) -> None:
    """Other journals and our own move, whatever that record is."""
    for number in (8, 9):
        with closing(journal(tmp_path / f"journal-{number}.db")) as dead:
            dead.commit([final(f"dead{number}")])
    with psycopg.connect(database_url) as connection:
        connection.execute("ALTER TABLE gateway_audit ADD CHECK (request_id <> 'dead8') NOT VALID")
    async with machine(tmp_path, database_url, pause=0.001) as one:
        one.add("mine")
        await until(lambda: len(one.arrived()) == 2 and bool(one.flusher.faults))
        assert one.flusher.failure is None

    assert "journal-8.db: PostgreSQL refuses a statement (23514)" in one.flusher.faults[0]


async def test_a_flusher_survives_an_unexpected_error(tmp_path: Path, database_url: str) -> None:
    """After an unexpected error, such as a thread that cannot be started, it goes on."""
    tries: list[int] = []

    async def faulty(work: Callable[[], T], /) -> T:
        tries.append(1)
        if len(tries) in {1, 4}:
            raise RuntimeError("can't start new thread")
        return await in_thread(work)

    async with machine(tmp_path, database_url, pause=0.001) as one:
        one.flusher.runner = faulty
        one.add("mine")
        assert await one.moved() == ["mine"]
        await until(lambda: len(tries) > 9 and one.flusher.failure is None)
