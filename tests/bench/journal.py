"""The cost of an audit record: `python -m tests.bench.journal`, or part of `tox -e bench`.

Tasks admit a request and finalize it, again and again: two entries and one record each. `strict`
waits for both to be on the disk, and all that wait share a commit. `buffered` does not wait, unless
too many records are unwritten; then a record is one entry, as its intent is replaced before it is
written. A line is the best of some rounds; the CPU time is that of the whole process.

The journal is made among the temporary files (`TMPDIR`). The first line shows how long that disk
takes to write 4 KiB for good: no commit of `strict` is shorter.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import anyio.lowlevel
import attrs
import structlog

from ollama_gateway.ledger.attempted import Attempt
from ollama_gateway.ledger.journal import Journal, JournalEntry
from ollama_gateway.ledger.record import AuditRecord
from ollama_gateway.ledger.writer import JournalWriter, write_journal
from ollama_gateway.services import SHORTEST_PAUSE
from tests.ledger.records import KEY, record

TASKS: Final = (1, 16, 64, 256)
ROUNDS: Final = 3
SECONDS: Final = 2.0
SYNCS: Final = 200
BLOCK: Final = bytes(4096)


class Timed(Journal):
    """A journal that notes how often it was committed, and the seconds that took."""

    commits = 0
    seconds = 0.0

    def commit(self, entries: Sequence[JournalEntry], *, is_durable: bool = True) -> None:
        """Commit, and note the time it took."""
        began = time.perf_counter()
        super().commit(entries, is_durable=is_durable)
        self.commits += 1
        self.seconds += time.perf_counter() - began


@attrs.frozen
class Measured:
    """One line of the table."""

    records: int
    wall: float
    cpu: float
    """Both are seconds."""
    commits: int
    committing: float
    """Seconds in commits, in the thread of the journal."""

    @property
    def rate(self) -> float:
        """Audit records a second."""
        return self.records / self.wall

    def __str__(self) -> str:
        each, commit = self.cpu / self.records * 1e6, self.committing / self.commits * 1e3
        return (
            f"{self.rate:>8,.0f} records/s {each:>6.0f} us CPU each,"
            f" {self.records / self.commits:>6.1f} a commit of {commit:>6.2f} ms,"
            f" {self.committing / self.wall:>4.0%} of the time in commits"
        )


async def measure(tasks: int, seconds: float, *, is_strict: bool) -> Measured:
    """Have tasks make audit records for some seconds."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "journal-0.db"
        with closing(Timed(path, is_strict=is_strict, key=KEY)) as journal:
            async with write_journal(JournalWriter(journal, is_strict=is_strict)) as writer:
                await _work(writer, tasks, 0.2)  # threads, the first pages of the file
                commits, committing = journal.commits, journal.seconds
                began, cpu = time.perf_counter(), _cpu()
                records = await _work(writer, tasks, seconds)
                return Measured(
                    records,
                    time.perf_counter() - began,
                    _cpu() - cpu,
                    journal.commits - commits,
                    journal.seconds - committing,
                )


async def _work(writer: JournalWriter, tasks: int, seconds: float) -> int:
    """Make records until the end; return the number of those that the journal has."""
    deadline, before = time.perf_counter() + seconds, writer.journal.head.seq
    numbers = itertools.count(before)

    async def task() -> None:
        while time.perf_counter() < deadline:
            while writer.why_not is not None:  # noqa: ASYNC110 - no event says when
                await anyio.sleep(SHORTEST_PAUSE / 10)
            made = attrs.evolve(_record(f"{next(numbers):032x}"), is_strict=writer.is_strict)
            await writer.admit(made)
            await writer.finalize(made)
            await anyio.lowlevel.checkpoint()  # so that others have their turn

    async with anyio.create_task_group() as group:
        for _ in range(tasks):
            group.start_soon(task)
    while writer.records_waiting:  # noqa: ASYNC110 - no event says when
        await anyio.sleep(0.001)
    return writer.journal.head.seq - before


def _record(name: str) -> AuditRecord:
    made = record(name)
    made.attempts.append(Attempt("a", 0.001, first_chunk=0.3))
    return made


def disk() -> float:
    """Return the seconds to append 4 KiB to a file and have them on the disk."""
    with tempfile.TemporaryFile() as file:
        began = time.perf_counter()
        for _ in range(SYNCS):
            os.write(file.fileno(), BLOCK)
            os.fdatasync(file.fileno())
        return (time.perf_counter() - began) / SYNCS


def _cpu() -> float:
    times = os.times()
    return times.user + times.system


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.journal", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each round")
    seconds = parser.parse_args().seconds
    silent = structlog.make_filtering_bound_logger(logging.WARNING)
    structlog.configure(wrapper_class=silent)
    sys.stdout.write(f"disk         {disk() * 1e3:.2f} ms to write 4 KiB for good\n")
    for is_strict in (True, False):
        for tasks in TASKS:
            run = partial(measure, tasks, seconds, is_strict=is_strict)
            best = max(
                (anyio.run(run, backend="trio") for _ in range(ROUNDS)),
                key=lambda record: record.rate,
            )
            name = "strict" if is_strict else "buffered"
            sys.stdout.write(f"{name:<12} {tasks:>3} tasks {best}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
