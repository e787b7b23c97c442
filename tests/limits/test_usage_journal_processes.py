"""Several processes in one directory: ownership of files, and killed processes."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import attrs
import pytest
import structlog.testing

from ollama_gateway.limits.charges import OpenRequest
from ollama_gateway.limits.contributions import Contribution, read_contributions
from ollama_gateway.limits.usage_file import UsageFile
from ollama_gateway.limits.usage_journal import open_usage_journal
from ollama_gateway.limits.usage_locks import inspected
from ollama_gateway.storage.batcher import in_place
from tests.limits.spent import DECEMBER, MONTH, NOVEMBER, TODAY, in_file, now
from tests.support.patience import PATIENCE

PROGRAM = """
import sys, trio
from pathlib import Path
from ollama_gateway.storage.batcher import in_place
from ollama_gateway.limits.usage_journal import open_usage_journal
from tests.limits.spent import TODAY, now

async def main():
    async with open_usage_journal(Path(sys.argv[1]), runner=in_place, now=now) as spending:
        spending.begin("open", "k", TODAY, 300)
        spending.begin("ended", "k", TODAY, 300)
        spending.end("ended", 7)
        await spending.write()
        print(spending.identity, flush=True)
        sys.stdin.read()

trio.run(main)
"""
"""A process that spends 7 tokens, and has a request open until its standard input ends."""


@attrs.frozen
class Living:
    """A process that owns a file."""

    popen: subprocess.Popen[str]
    identity: str

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.popen.kill()
        self.popen.wait(PATIENCE)

    def leave(self) -> int:
        """Let it end by itself; return the exit code."""
        self.popen.communicate(timeout=PATIENCE)
        return self.popen.returncode


@contextmanager
def living(directory: Path) -> Iterator[Living]:
    """Run such a process with 7 written tokens; kill it at the end of the block."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, directory],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as popen:
        try:
            assert popen.stdout is not None
            yield Living(popen, popen.stdout.readline().strip())
        finally:
            popen.kill()


def owner(directory: Path) -> closing[UsageFile]:
    """A file owned by this process, in a `with`."""
    return closing(UsageFile(directory, MONTH))


def contents(directory: Path) -> dict[str, bytes]:
    """The bytes of the databases and their logs."""
    return {
        file.name: file.read_bytes()
        for file in directory.iterdir()
        if file.suffix in {".db", ".db-wal"}
    }


async def test_a_killed_process_is_charged_for_what_was_open(tmp_path: Path) -> None:
    """The next owner of the file charges the prompt's bound, once."""
    with living(tmp_path) as process:
        process.kill()
    for _ in range(3):
        async with open_usage_journal(tmp_path, runner=in_place, now=now) as usage_journal:
            assert usage_journal.identity == process.identity
            assert usage_journal.totals() == {"k": {TODAY: 307}}
            assert in_file(tmp_path) == ({("k", TODAY): 307}, set())
            usage_journal.end("open", 1000)


async def test_a_process_that_leaves_is_charged_too(tmp_path: Path) -> None:
    """Requests left open at its end cost the same as if it had been killed."""
    with living(tmp_path) as process:
        assert process.leave() == 0
    async with open_usage_journal(tmp_path, runner=in_place, now=now) as usage_journal:
        assert usage_journal.totals() == {"k": {TODAY: 307}}


def test_processes_have_files_of_their_own(tmp_path: Path) -> None:
    """Two living processes have two files; the next process takes the file of a killed one."""
    with living(tmp_path) as first, living(tmp_path) as second:
        with owner(tmp_path) as third:
            assert third.path.name == "budgets-2.db"
            assert len({first.identity, second.identity, third.content.identity}) == 3
        first.kill()
        with owner(tmp_path) as fourth:
            assert fourth.path.name == "budgets-0.db"
            assert fourth.content.identity == first.identity


def test_others_count_open_requests_of_the_dead_only(tmp_path: Path) -> None:
    """A living process's usage counts; once it is killed, so do its open requests."""
    with owner(tmp_path) as own, living(tmp_path) as process:
        alive = read_contributions(tmp_path, own.content.identity)
        process.kill()
        before = contents(tmp_path)
        dead = [read_contributions(tmp_path, own.content.identity) for _ in range(2)]
        assert contents(tmp_path) == before
        for lock in tmp_path.glob("budgets-1.[al]*"):
            lock.unlink()
        unlocked = read_contributions(tmp_path, own.content.identity)
        with owner(tmp_path) as heir:
            inherited = read_contributions(tmp_path, own.content.identity)
            assert [
                given.identity for given in read_contributions(tmp_path, heir.content.identity)
            ] == [own.content.identity]
    assert alive == [Contribution(process.identity, {"k": {TODAY: 7}}, is_alive=True)]
    charged = Contribution(process.identity, {"k": {TODAY: 307}}, is_alive=False)
    assert dead == [[charged]] * 2
    assert unlocked == [charged]
    assert inherited == [attrs.evolve(charged, is_alive=True)]


def test_a_file_being_made_is_no_error(tmp_path: Path) -> None:
    """An empty database contributes nothing and logs nothing."""
    (tmp_path / "budgets-7.db").touch()
    with structlog.testing.capture_logs() as lines:
        assert read_contributions(tmp_path, "") == []
    assert lines == []


def test_no_directory_has_no_others(tmp_path: Path) -> None:
    """A missing directory has no contributions."""
    assert read_contributions(tmp_path / "none", "") == []


def test_a_starting_process_waits_for_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader never sees less than was spent, and keeps no owner from its file."""
    with owner(tmp_path) as before:
        before.write({}, {"open": OpenRequest("k", TODAY, 300)})
    found: list[Contribution] = []
    with ExitStack() as reading:
        assert not reading.enter_context(inspected(before.path))

        def nap(_seconds: float) -> None:
            with closing(sqlite3.connect(before.path)) as connection:  # charged before it lives
                assert connection.execute("SELECT count(*) FROM open").fetchone() == (0,)
            found.extend(read_contributions(tmp_path, ""))
            reading.close()

        monkeypatch.setattr("time.sleep", nap)
        with owner(tmp_path) as after:
            assert after.path == before.path
            found.extend(read_contributions(tmp_path, ""))
    assert [(given.totals["k"][TODAY], given.is_alive) for given in found] == [
        (300, False),
        (300, True),
    ]


def test_a_reader_that_stays_keeps_nobody_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After two seconds, here none, a starting process takes the next file."""
    monkeypatch.setattr("ollama_gateway.limits.usage_locks.READERS_SECONDS", 0)
    with owner(tmp_path) as before:
        pass
    with inspected(before.path) as is_alive, inspected(before.path) as is_still_alive:
        assert (is_alive, is_still_alive) == (False, False)
        with owner(tmp_path) as after:
            assert after.path.name == "budgets-1.db"


def test_many_start_at_once_while_others_read(tmp_path: Path) -> None:
    """Each process gets a file, no number is left out, and readers lose nothing."""
    ready, are_open = threading.Barrier(9), threading.Barrier(9)
    paths, lines = list[str](), list[str]()
    spent = {("k", TODAY): 7}

    def start() -> None:
        ready.wait(PATIENCE)
        with owner(tmp_path) as file:
            paths.append(file.path.name)
            file.write(spent, {"open": OpenRequest("k", TODAY, 300)})
            are_open.wait(PATIENCE)

    with structlog.testing.capture_logs() as logged:
        threads = [threading.Thread(target=start) for _ in range(8)]
        for thread in threads:
            thread.start()
        ready.wait(PATIENCE)
        while are_open.n_waiting < 8:
            lines += [str(given.totals) for given in read_contributions(tmp_path, "")]
        found = read_contributions(tmp_path, "")
        are_open.wait(PATIENCE)
        for thread in threads:
            thread.join()
    assert sorted(paths) == [f"budgets-{number}.db" for number in range(8)]
    assert [given.totals for given in found] == [{"k": {TODAY: 7}}] * 8
    assert set(lines) <= {"{}", str({"k": {TODAY: 7}})}
    assert logged == []


def test_old_days_are_dropped_at_the_next_start(tmp_path: Path) -> None:
    """The month before is kept; older usage and open requests are dropped."""
    days = {("a", NOVEMBER): 1, ("a", DECEMBER): 2, ("b", NOVEMBER): 3, ("b", TODAY): 4}
    with owner(tmp_path) as file:
        file.write(days, {"r": OpenRequest("c", NOVEMBER, 5)})
    kept = {("a", DECEMBER): 2, ("b", TODAY): 4}
    with owner(tmp_path) as file:
        assert file.content.spent == kept
        assert in_file(tmp_path) == (kept, set())


def test_only_the_owner_may_read_the_files(tmp_path: Path) -> None:
    """The directory is 0700; its files are 0600, also those that reading a dead one makes."""
    directory = tmp_path / "some" / "data"
    with owner(directory):
        pass
    with owner(directory):
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()}
    read_contributions(directory, "")
    left = {stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert modes == {
        f"budgets-0.{suffix}": 0o600 for suffix in ("alive", "db", "db-shm", "db-wal", "lock")
    }
    assert left == {0o600}
