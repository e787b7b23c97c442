"""Changes by operators are records of the chain: on the disk before they are made, or not made."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from ollama_gateway.ledger.journal import Journal, JournalEntry, JournalError
from ollama_gateway.ledger.operator_change import ChangeNotRecorded, OperatorChange
from ollama_gateway.ledger.ownership import COMMANDS_JOURNAL, own_journal, recover
from ollama_gateway.ledger.read.verifying import Chains
from ollama_gateway.ledger.recording_changes import JournalChanges, LocalChanges
from ollama_gateway.ledger.writer import JournalWriter
from tests.ledger.records import CHANGE, KEY, final, intent, journal, record, stored

KILLED = """
import os, signal, sys
from pathlib import Path
from ollama_gateway.ledger.operator_change import OperatorChange
from ollama_gateway.ledger.recording_changes import LocalChanges
with LocalChanges(Path(sys.argv[1]), b"secret").making(OperatorChange("mia", "keys.revoke", "k1")):
    os.kill(os.getpid(), signal.SIGKILL)
"""
MANY = """
import sys
from pathlib import Path
from ollama_gateway.ledger.operator_change import OperatorChange
from ollama_gateway.ledger.recording_changes import LocalChanges
for number in range(5):
    change = OperatorChange("mia", "keys.update", f"{sys.argv[2]}-{number}")
    with LocalChanges(Path(sys.argv[1]), b"secret").making(change):
        pass
"""


def no_end(_: JournalEntry) -> None:
    """Take no end that cannot be written."""
    pytest.fail("an end was not written")


def documents(path: Path) -> list[dict[str, Any]]:
    """Return the documents of the finished records of a journal, whose chain must hold."""
    return [json.loads(link.document) for link in stored(path)]


def outcomes(path: Path) -> list[str]:
    """Return the outcomes of the changes in a journal."""
    return [one["outcome"] for one in documents(path) if one.get("kind") == "change"]


def faults(path: Path) -> list[str | None]:
    """Return the first fault of a journal."""
    [report] = Chains([path], KEY).local()
    return [report.error or (report.fault.reason if report.fault else None)]


def test_a_change_is_on_the_disk_before_it_is_made(tmp_path: Path) -> None:
    """Within the block another reader finds it; after it, it is a record with all its fields."""
    path = tmp_path / "journal-0.db"
    with closing(journal(path)) as owned, JournalChanges(owned, no_end).making(CHANGE):
        [[text]] = found(path, "SELECT document FROM intents")
        assert json.loads(text)["outcome"] is None

    [document] = documents(path)
    assert len(document.pop("change_id")) == 32
    assert document.pop("at").endswith("+00:00")
    assert document == {
        "kind": "change",
        "by": "mia",
        "action": "keys.update",
        "target": "k1",
        "before": {"name": "alice"},
        "after": {"name": "bob"},
        "reason": "a typo",
        "outcome": "made",
    }
    assert found(path, "SELECT count(*) FROM intents") == [(0,)]


def found(path: Path, question: str) -> list[tuple[Any, ...]]:
    """Return what another connection reads in a journal."""
    import sqlite3  # noqa: PLC0415

    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(question).fetchall()


def test_what_is_known_only_at_the_end_is_filled_in(tmp_path: Path) -> None:
    """The record has what `after` says when the block is left."""
    path, after = tmp_path / "journal-0.db", {"id": "k1"}
    change = OperatorChange("mia", "keys.create", "k1", after=after)
    with closing(journal(path)) as owned, JournalChanges(owned, no_end).making(change):
        after["name"] = "alice"

    assert documents(path)[0]["after"] == {"id": "k1", "name": "alice"}


def test_a_change_that_fails_is_recorded_so(tmp_path: Path) -> None:
    """The error goes on to the caller; an interrupted change may have been made or not."""
    path = tmp_path / "journal-0.db"
    with closing(journal(path)) as owned:
        changes = JournalChanges(owned, no_end)
        with pytest.raises(OSError, match="no"), changes.making(CHANGE):
            raise OSError("no")
        with suppress(KeyboardInterrupt), changes.making(CHANGE):
            raise KeyboardInterrupt

    assert outcomes(path) == ["failed", "unknown"]


def test_without_a_record_nothing_is_changed(tmp_path: Path) -> None:
    """The block is not entered, and the error is one line."""
    path = tmp_path / "journal-0.db"
    with closing(journal(path)) as owned:
        path.rename(tmp_path / "elsewhere")
        with (
            pytest.raises(
                ChangeNotRecorded, match=r"^nothing was changed, .*journal-0\.db is gone"
            ),
            JournalChanges(owned, no_end).making(CHANGE),
        ):
            pytest.fail("it was made")


def test_a_local_change_without_a_record_is_not_made(tmp_path: Path) -> None:
    """The directory of the journals cannot be used."""
    (tmp_path / "data").touch()
    with (
        pytest.raises(ChangeNotRecorded, match=r"^nothing was changed, .*"),
        LocalChanges(tmp_path / "data", KEY).making(CHANGE),
    ):
        pytest.fail("it was made")


def test_the_end_of_a_killed_change_is_unknown(tmp_path: Path) -> None:
    """The next owner of the journal says so, and counts no killed request."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    noted: list[Any] = []

    assert recover(tmp_path, key=KEY, note=noted.append) == []
    assert outcomes(tmp_path / COMMANDS_JOURNAL) == ["unknown"]
    assert noted == []


def test_changes_stand_between_requests(tmp_path: Path) -> None:
    """A gateway's journal holds both; killed requests and begun changes end each in its own way."""
    path = tmp_path / "journal-0.db"
    with closing(journal(path)) as owned:
        owned.commit([final("r1"), intent("r2")])
        with JournalChanges(owned, no_end).making(CHANGE):
            owned.commit([final("r3")])
    with closing(journal(path)) as owned:
        assert [killed["request_id"] for killed in owned.killed] == ["r2"]

    assert [one.get("request_id", "change") for one in documents(path)] == [
        *("r1", "r3", "change", "r2")
    ]
    assert faults(path) == [None]


class Failing(Journal):
    """A journal whose writes fail while `is_failing`."""

    is_failing = False

    def commit(self, *arguments: Any, **options: Any) -> None:
        """Fail, or commit."""
        if self.is_failing:
            raise JournalError("full")
        super().commit(*arguments, **options)


@pytest.mark.virtual_time
@pytest.mark.parametrize("is_strict", [True, False])
async def test_an_end_that_cannot_be_written_comes_with_the_next_records(
    tmp_path: Path,
    is_strict: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """The change was made, so its end is written as soon as the journal can be, once."""
    path = tmp_path / "journal-0.db"
    with closing(Failing(path, is_strict=is_strict, key=KEY)) as owned:
        writer = JournalWriter(owned, is_strict=is_strict)
        with JournalChanges(owned, writer.put_off).making(CHANGE):
            owned.is_failing = True
        writer.close(record("r1"))
        await writer.write()
        assert writer.failure == "full"
        owned.is_failing = False
        await writer.write()
        writer.close(record("r2"))
        await writer.write()

    assert outcomes(path) == ["made"]
    assert sorted(str(one.get("request_id")) for one in documents(path)) == ["None", "r1", "r2"]


def test_many_threads_change_while_requests_end(tmp_path: Path) -> None:
    """A journal takes changes from worker threads beside the records of its writer."""
    path, count = tmp_path / "journal-0.db", 10
    with closing(journal(path)) as owned:
        changes = JournalChanges(owned, no_end)

        def change() -> None:
            for _ in range(count):
                with changes.making(CHANGE):
                    pass

        threads = [threading.Thread(target=change) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(count):
            owned.commit([intent(f"r{number}")])
            owned.commit([final(f"r{number}")], is_durable=False)
        for thread in threads:
            thread.join()

    assert outcomes(path) == ["made"] * 4 * count
    assert len(documents(path)) == 5 * count
    assert faults(path) == [None]


def test_commands_record_beside_a_running_gateway(tmp_path: Path) -> None:
    """They have a journal of their own, for which several commands wait for each other."""
    with own_journal(tmp_path, is_strict=False, key=KEY) as owned:
        command = [sys.executable, "-c", MANY, str(tmp_path)]
        running = [subprocess.Popen([*command, str(number)]) for number in range(3)]
        assert [one.wait() for one in running] == [0, 0, 0]
        owned.commit([final("r1")])

    assert outcomes(tmp_path / COMMANDS_JOURNAL) == ["made"] * 15
    assert faults(tmp_path / COMMANDS_JOURNAL) == faults(tmp_path / "journal-0.db") == [None]


def test_a_wrong_key_breaks_no_chain(tmp_path: Path) -> None:
    """A command whose settings lack the chain's key changes nothing."""
    for _ in range(2):  # against the checkpoint, and against a record
        with LocalChanges(tmp_path, KEY).making(CHANGE):
            pass
        with (
            pytest.raises(ChangeNotRecorded, match=r"is audit\.chain_key here the gateway's\?"),
            LocalChanges(tmp_path, b"").making(CHANGE),
        ):
            pytest.fail("it was made")

    assert outcomes(tmp_path / COMMANDS_JOURNAL) == ["made", "made"]


def test_root_leaves_the_journal_to_the_directory_owner(tmp_path: Path) -> None:
    """A gateway that runs as another user can read it and look after it."""
    data = tmp_path / "data"
    data.mkdir()
    owner = 1234 if os.geteuid() == 0 else os.geteuid()  # no other user can give files away
    os.chown(data, owner, -1)
    with LocalChanges(data, KEY).making(CHANGE):
        inside = {path.stat().st_uid for path in data.iterdir()}

    assert inside == {path.stat().st_uid for path in data.iterdir()} == {owner}
