"""The journal writer in virtual time, on real SQLite files: callers that wait, and no loss."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TypeVar

import attrs
import pytest
import structlog.testing
import trio
import trio.testing

from ollama_gateway.errors import Unavailable
from ollama_gateway.ledger import writer as writer_module
from ollama_gateway.ledger.journal import Journal, JournalEntry
from ollama_gateway.ledger.ownership import has_intents
from ollama_gateway.ledger.record import AuditRecord
from ollama_gateway.ledger.writer import (
    CAPACITY,
    STRICT_SECONDS,
    JournalWriter,
    write_journal,
)
from ollama_gateway.reasons import Reason
from ollama_gateway.services import LONGEST_PAUSE, SHORTEST_PAUSE
from ollama_gateway.storage.batcher import in_place
from tests.ledger.records import KEY, ids, record
from tests.support.runners import Slow

pytestmark = pytest.mark.virtual_time

T = TypeVar("T")


class Counting(Journal):
    """A journal that counts its transactions and whose file can be moved away."""

    transactions = 0

    def commit(self, entries: Sequence[JournalEntry], *, is_durable: bool = True) -> None:
        """Commit and count the call."""
        self.transactions += 1
        super().commit(entries, is_durable=is_durable)

    def lose(self) -> None:
        """Make every write fail."""
        self.path.rename(self.path.with_suffix(".lost"))

    def find(self) -> None:
        """Make writes work again."""
        self.path.with_suffix(".lost").rename(self.path)


def strict(request_id: str) -> AuditRecord:
    """Make the record of a request that began in strict mode."""
    return attrs.evolve(record(request_id), is_strict=True)


@attrs.define
class Opened:
    """A journal writer and its journal."""

    writer: JournalWriter
    journal: Counting

    @property
    def ids(self) -> list[str]:
        """The requests with finished records."""
        return ids(self.journal.path)


@asynccontextmanager
async def opened(tmp_path: Path, *, is_strict: bool) -> AsyncIterator[Opened]:
    """Run a journal writer for the length of the block."""
    journal = Counting(tmp_path / "data" / "journal-0.db", is_strict=is_strict, key=KEY)
    with closing(journal):
        async with write_journal(
            JournalWriter(journal, is_strict=is_strict, runner=in_place)
        ) as writer:
            yield Opened(writer, journal)


async def test_buffered_nobody_waits(tmp_path: Path) -> None:
    """The records of 100 ms are one transaction; an intent of an ended request is not written."""
    async with opened(tmp_path, is_strict=False) as one:
        for number in range(5):
            await one.writer.admit(record(f"r{number}"))
            one.writer.close(record(f"r{number}"))
        assert (trio.current_time(), one.ids) == (0, [])
        await trio.testing.wait_all_tasks_blocked()
        first = one.ids
        await one.writer.admit(record("open"))
        one.writer.close(record("later"))
        await trio.sleep(SHORTEST_PAUSE * 1.01)

        assert first == [f"r{number}" for number in range(5)]
        assert (one.ids, has_intents(one.journal.path)) == ([*first, "later"], True)
        assert one.journal.transactions == 2


async def test_strict_waits_until_it_is_on_the_disk(tmp_path: Path) -> None:
    """The intent is written before the request goes upstream, the end before its client hears."""
    async with opened(tmp_path, is_strict=True) as one:
        await one.writer.admit(strict("a"))
        assert (one.ids, has_intents(one.journal.path)) == ([], True)
        await one.writer.finalize(strict("a"))
        assert (one.ids, has_intents(one.journal.path)) == (["a"], False)


async def test_strict_waits_together(tmp_path: Path) -> None:
    """A hundred concurrent requests share at most two transactions."""
    async with opened(tmp_path, is_strict=True) as one:
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(one.writer.finalize, strict(f"r{number}"))

        assert len(one.ids) == 100
        assert one.journal.transactions <= 2


async def test_strict_refuses_what_cannot_be_written(tmp_path: Path) -> None:
    """Waiting requests get 503, new ones at once; service recovers by itself."""
    async with opened(tmp_path, is_strict=True) as one:
        one.journal.lose()
        with pytest.raises(Unavailable) as refusal:
            await one.writer.finalize(strict("a"))
        assert (refusal.value.reason, refusal.value.status) == ("audit_unavailable", 503)
        assert one.writer.why_not is not None
        with pytest.raises(Unavailable):
            one.writer.check_room()
        one.journal.find()
        await trio.sleep(LONGEST_PAUSE)

        one.writer.check_room()
        assert one.ids == ["a"]


async def test_who_is_refused_for_the_journal_has_a_row_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record is written once the journal works, as far as admitted requests leave room."""
    monkeypatch.setattr(writer_module, "CAPACITY", 50)
    async with opened(tmp_path, is_strict=True) as one:
        one.journal.lose()
        for number in range(50):
            one.writer.refuse(strict(f"r{number}"))
        assert one.writer.records_waiting == 25
        one.writer.close(strict("let in"))
        one.journal.find()
        await trio.sleep(2 * LONGEST_PAUSE)

        assert len(one.ids) == 26
        assert one.ids[-1] == "let in"


async def test_strict_does_not_wait_for_ever(tmp_path: Path) -> None:
    """A hanging disk is a 503 after two seconds; the record is written when the disk goes on."""
    journal = Counting(tmp_path / "journal-0.db", is_strict=True, key=KEY)
    with closing(journal):
        async with write_journal(JournalWriter(journal, is_strict=True, runner=Slow(60))) as writer:
            with pytest.raises(Unavailable):
                await writer.admit(strict("a"))
            assert trio.current_time() == STRICT_SECONDS
            writer.close(strict("a"))
            await trio.sleep(180)
        assert ids(journal.path) == ["a"]


async def test_buffered_goes_on_up_to_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk fails, records wait; too many stop new requests; then all are written."""
    monkeypatch.setattr(writer_module, "CAPACITY", 50)
    assert CAPACITY == 10_000
    async with opened(tmp_path, is_strict=False) as one:
        one.journal.lose()
        for number in range(50):
            one.writer.check_room()
            one.writer.close(record(f"r{number}"))
        with pytest.raises(Unavailable):
            one.writer.check_room()
        one.writer.close(record("had begun before"))
        await trio.sleep(60)
        assert one.writer.records_waiting == 51
        one.journal.find()
        await trio.sleep(LONGEST_PAUSE)

        assert (one.writer.records_waiting, len(one.ids)) == (0, 51)
        one.writer.check_room()


async def test_a_failing_disk_is_not_tried_all_the_time(tmp_path: Path) -> None:
    """Writes are tried once a second, in the end."""
    async with opened(tmp_path, is_strict=False) as one:
        one.journal.lose()
        one.writer.close(record("a"))
        await trio.sleep(60)
        assert 60 <= one.journal.transactions <= 65
        one.journal.find()


async def test_what_waits_at_the_end_is_written(tmp_path: Path) -> None:
    """All pending records are written, however many."""
    async with opened(tmp_path, is_strict=False) as one:
        for number in range(2500):
            one.writer.close(record(f"r{number}"))
        journal = one.journal

    assert len(ids(journal.path)) == 2500


async def test_the_end_does_not_wait_for_a_disk_that_fails(tmp_path: Path) -> None:
    """The log says how many records are lost."""
    with structlog.testing.capture_logs() as lines:
        async with opened(tmp_path, is_strict=False) as one:
            one.journal.lose()
            one.writer.close(record("a"))

    assert [(line["event"], line["rows"]) for line in lines if "rows" in line] == [
        ("audit rows not written", 1)
    ]


async def test_the_state_that_came_last_is_written(tmp_path: Path) -> None:
    """A record that was finalized while the disk failed ends as the client saw it: refused."""
    async with opened(tmp_path, is_strict=True) as one:
        one.journal.lose()
        finalized = strict("a")
        with pytest.raises(Unavailable):
            await one.writer.finalize(finalized)
        finalized.outcome, finalized.reason = "refused", Reason.AUDIT_UNAVAILABLE
        one.writer.close(finalized)
        one.journal.find()
        await trio.sleep(LONGEST_PAUSE)

        assert one.ids == ["a"]
        assert one.writer.records_waiting == 0


@pytest.mark.parametrize(
    "error", [RuntimeError("can't start new thread"), MemoryError(), OSError()]
)
async def test_a_writer_survives_unexpected_errors(tmp_path: Path, error: Exception) -> None:
    """Whatever a write raises is logged, and the records stay and are written a moment later."""
    errors = [error, error]

    async def faulty(work: Callable[[], T], /) -> T:
        if errors:
            raise errors.pop()
        return work()

    with (
        closing(Counting(tmp_path / "journal-0.db", is_strict=True, key=KEY)) as journal,
        structlog.testing.capture_logs() as lines,
    ):
        async with write_journal(JournalWriter(journal, is_strict=True, runner=faulty)) as writer:
            with pytest.raises(Unavailable):
                await writer.admit(strict("a"))
            assert writer.why_not is not None
            writer.close(strict("a"))
            await trio.sleep(LONGEST_PAUSE)
            assert (writer.failure, writer.records_waiting) == (None, 0)
        assert ids(journal.path) == ["a"]
    assert lines[0]["cause"] == f"{type(error).__name__}: {error}"
    assert [line["event"] for line in lines] == [
        "audit journal failing",
        "audit journal works again",
    ]


async def test_a_request_keeps_the_mode_that_it_began_with(tmp_path: Path) -> None:
    """After a change to buffered, a strict request still waits for the disk, a new one does not."""
    async with opened(tmp_path, is_strict=True) as one:
        await one.writer.admit(strict("old"))
        one.writer.become(is_strict=False)
        await one.writer.admit(record("new"))
        one.writer.close(record("new"))
        assert one.ids == []
        await one.writer.finalize(strict("old"))
        assert "old" in one.ids
