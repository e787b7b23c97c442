"""The trail in virtual time, on real SQLite files: who waits, who does not, and nothing is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TypeVar

import anyio
import attrs
import pytest
import structlog.testing
import trio
import trio.testing

from ollama_gateway.errors import Unavailable
from ollama_gateway.ledger import writer as writer_module
from ollama_gateway.ledger.journal import Entry, Journal
from ollama_gateway.ledger.ownership import has_intents
from ollama_gateway.ledger.writer import (
    CAPACITY,
    LONGEST,
    PATIENCE,
    SHORTEST,
    JournalWriter,
    write_journal,
)
from ollama_gateway.storage.batcher import in_place
from tests.ledger.records import KEY, ids, record

T = TypeVar("T")
Clock = trio.testing.MockClock


class Counting(Journal):
    """A journal that counts its transactions, and whose file can be taken away."""

    transactions = 0

    def commit(self, entries: Sequence[Entry]) -> None:
        """Commit, and count that."""
        self.transactions += 1
        super().commit(entries)

    def lose(self) -> None:
        """From now on nothing can be written."""
        self.path.rename(self.path.with_suffix(".lost"))

    def find(self) -> None:
        """Everything works again."""
        self.path.with_suffix(".lost").rename(self.path)


@attrs.define
class Opened:
    """A trail and its journal."""

    audit_log: JournalWriter
    journal: Counting

    @property
    def ids(self) -> list[str]:
        """Of which requests there are finished rows."""
        return ids(self.journal.path)


@asynccontextmanager
async def opened(tmp_path: Path, *, is_strict: bool) -> AsyncIterator[Opened]:
    """A trail for the length of the block."""
    journal = Counting(tmp_path / "data" / "journal-0.db", is_strict=is_strict, key=KEY)
    with closing(journal):
        async with write_journal(
            JournalWriter(journal, is_strict=is_strict, runner=in_place)
        ) as audit_log:
            yield Opened(audit_log, journal)


async def test_buffered_nobody_waits(autojump_clock: Clock, tmp_path: Path) -> None:
    """What comes within 100 ms is one transaction; an intent that has ended is never written."""
    async with opened(tmp_path, is_strict=False) as one:
        for number in range(5):
            await one.audit_log.admit(record(f"r{number}"))
            one.audit_log.close(record(f"r{number}"))
        assert (trio.current_time(), one.ids) == (0, [])
        await trio.testing.wait_all_tasks_blocked()
        first = one.ids
        await one.audit_log.admit(record("open"))
        one.audit_log.close(record("later"))
        await trio.sleep(SHORTEST * 1.01)

        assert first == [f"r{number}" for number in range(5)]
        assert (one.ids, has_intents(one.journal.path)) == ([*first, "later"], True)
        assert one.journal.transactions == 2


async def test_strict_waits_until_it_is_on_the_disk(autojump_clock: Clock, tmp_path: Path) -> None:
    """An intent before anything goes upstream, the end before its client learns of it."""
    async with opened(tmp_path, is_strict=True) as one:
        await one.audit_log.admit(record("a"))
        assert (one.ids, has_intents(one.journal.path)) == ([], True)
        await one.audit_log.finalize(record("a"))
        assert (one.ids, has_intents(one.journal.path)) == (["a"], False)


async def test_strict_waits_together(autojump_clock: Clock, tmp_path: Path) -> None:
    """A hundred requests at once share two transactions at most, not a hundred."""
    async with opened(tmp_path, is_strict=True) as one:
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(one.audit_log.finalize, record(f"r{number}"))

        assert len(one.ids) == 100
        assert one.journal.transactions <= 2


async def test_strict_refuses_what_cannot_be_written(autojump_clock: Clock, tmp_path: Path) -> None:
    """503 to those who wait, and at once to those who come; service is back by itself."""
    async with opened(tmp_path, is_strict=True) as one:
        one.journal.lose()
        with pytest.raises(Unavailable) as refusal:
            await one.audit_log.finalize(record("a"))
        assert (refusal.value.reason, refusal.value.status) == ("audit_unavailable", 503)
        assert one.audit_log.why_not is not None
        with pytest.raises(Unavailable):
            one.audit_log.check_room()
        one.journal.find()
        await trio.sleep(LONGEST)

        one.audit_log.check_room()
        assert one.ids == ["a"]


async def test_who_is_refused_for_the_journal_has_a_row_too(
    autojump_clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written when the journal works again; of many, as far as those let in leave room."""
    monkeypatch.setattr(writer_module, "CAPACITY", 50)
    async with opened(tmp_path, is_strict=True) as one:
        one.journal.lose()
        for number in range(50):
            one.audit_log.refuse(record(f"r{number}"))
        assert one.audit_log.rows_waiting == 25
        one.audit_log.close(record("let in"))
        one.journal.find()
        await trio.sleep(2 * LONGEST)

        assert len(one.ids) == 26
        assert one.ids[-1] == "let in"


async def test_strict_does_not_wait_for_ever(autojump_clock: Clock, tmp_path: Path) -> None:
    """A disk that hangs is a 503 after two seconds; the row is written when it goes on."""

    async def slow(work: object) -> object:
        await anyio.sleep(60)
        return work()  # type: ignore[operator]

    journal = Counting(tmp_path / "journal-0.db", is_strict=True, key=KEY)
    with closing(journal):
        async with write_journal(JournalWriter(journal, is_strict=True, runner=slow)) as audit_log:  # type: ignore[arg-type]
            with pytest.raises(Unavailable):
                await audit_log.admit(record("a"))
            assert trio.current_time() == PATIENCE
            audit_log.close(record("a"))
            await trio.sleep(180)
        assert ids(journal.path) == ["a"]


async def test_buffered_goes_on_up_to_a_bound(
    autojump_clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk fails rows wait; when too many do, nobody begins; then all are written."""
    monkeypatch.setattr(writer_module, "CAPACITY", 50)
    assert CAPACITY == 10_000
    async with opened(tmp_path, is_strict=False) as one:
        one.journal.lose()
        for number in range(50):
            one.audit_log.check_room()
            one.audit_log.close(record(f"r{number}"))
        with pytest.raises(Unavailable):
            one.audit_log.check_room()
        one.audit_log.close(record("had begun before"))
        await trio.sleep(60)
        assert one.audit_log.rows_waiting == 51
        one.journal.find()
        await trio.sleep(LONGEST)

        assert (one.audit_log.rows_waiting, len(one.ids)) == (0, 51)
        one.audit_log.check_room()


async def test_a_failing_disk_is_not_tried_all_the_time(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    """Once a second, in the end."""
    async with opened(tmp_path, is_strict=False) as one:
        one.journal.lose()
        one.audit_log.close(record("a"))
        await trio.sleep(60)
        assert 60 <= one.journal.transactions <= 65
        one.journal.find()


async def test_what_waits_at_the_end_is_written(autojump_clock: Clock, tmp_path: Path) -> None:
    """However much it is."""
    async with opened(tmp_path, is_strict=False) as one:
        for number in range(2500):
            one.audit_log.close(record(f"r{number}"))
        journal = one.journal

    assert len(ids(journal.path)) == 2500


async def test_the_end_does_not_wait_for_a_disk_that_fails(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    """It is said how many rows are lost."""
    with structlog.testing.capture_logs() as lines:
        async with opened(tmp_path, is_strict=False) as one:
            one.journal.lose()
            one.audit_log.close(record("a"))

    assert [(line["event"], line["rows"]) for line in lines if "rows" in line] == [
        ("audit rows not written", 1)
    ]


async def test_the_state_that_came_last_is_written(autojump_clock: Clock, tmp_path: Path) -> None:
    """A row that was sealed while the disk failed ends as what its client saw: refused."""
    async with opened(tmp_path, is_strict=True) as one:
        one.journal.lose()
        finalized = record("a")
        with pytest.raises(Unavailable):
            await one.audit_log.finalize(finalized)
        finalized.outcome, finalized.reason = "refused", "audit_unavailable"
        one.audit_log.close(finalized)
        one.journal.find()
        await trio.sleep(LONGEST)

        assert one.ids == ["a"]
        assert one.audit_log.rows_waiting == 0


@pytest.mark.parametrize(
    "error", [RuntimeError("can't start new thread"), MemoryError(), OSError()]
)
async def test_a_trail_survives_what_nobody_thought_of(
    autojump_clock: Clock, tmp_path: Path, error: Exception
) -> None:
    """Whatever a write raises: it is told, the rows stay, and they are written a moment later."""
    errors = [error, error]

    async def faulty(work: Callable[[], T], /) -> T:
        if errors:
            raise errors.pop()
        return work()

    with (
        closing(Counting(tmp_path / "journal-0.db", is_strict=True, key=KEY)) as journal,
        structlog.testing.capture_logs() as lines,
    ):
        async with write_journal(
            JournalWriter(journal, is_strict=True, runner=faulty)
        ) as audit_log:
            with pytest.raises(Unavailable):
                await audit_log.admit(record("a"))
            assert audit_log.why_not is not None
            audit_log.close(record("a"))
            await trio.sleep(LONGEST)
            assert (audit_log.failure, audit_log.rows_waiting) == (None, 0)
        assert ids(journal.path) == ["a"]
    assert lines[0]["cause"] == f"{type(error).__name__}: {error}"
    assert [line["event"] for line in lines] == [
        "audit journal failing",
        "audit journal works again",
    ]
