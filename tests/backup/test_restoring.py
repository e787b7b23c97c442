"""Restores into directories that are new, in use, or hold files already."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ollama_gateway.backup.archive import ArchiveWriter, Manifest
from ollama_gateway.backup.comparing import STORE_ERRORS
from ollama_gateway.backup.kinds import BackupError
from ollama_gateway.backup.restoring import NEW
from ollama_gateway.keys.key import StoreError
from ollama_gateway.ledger.ownership import own_journal
from ollama_gateway.limits.usage_file import UsageFile
from ollama_gateway.storage.data_files import INTERRUPTED
from tests.backup.data import contents, filled, names_in, nothing, opened, restored
from tests.ledger.records import KEY, final, ids, journal
from tests.limits.spent import MONTH


def test_a_directory_that_is_missing_is_made(archive: Path, tmp_path: Path) -> None:
    """A lost machine's directory comes back, private, with private files."""
    new = tmp_path / "lost" / "data"
    kept = restored(archive, new)

    assert names_in(kept) == []
    assert stat.S_IMODE(new.stat().st_mode) == 0o700
    assert {stat.S_IMODE((new / name).stat().st_mode) for name in contents(new)} == {0o600}
    assert contents(new).keys() == {"journal-0.db", "budgets-0.db", "keys.db", "paused.json"}


def test_present_files_are_kept_beside_the_restored_ones(archive: Path, data: Path) -> None:
    """All of them, also those that the backup does not have; none of them is used any more."""
    filled(data)
    with closing(journal(data / "journal-1.db")) as other:
        other.commit([final("other")])
    before = contents(data)
    kept = restored(archive, data)

    assert contents(kept) == before
    assert kept.parent == data
    assert kept.name.startswith("before-restore-")
    assert "journal-1.db" not in contents(data)
    assert not {NEW, INTERRUPTED} & set(names_in(data))


def test_a_restore_can_be_undone_by_hand(archive: Path, data: Path) -> None:
    """The files that were kept are those that were there, with what SQLite had beside them."""
    filled(data)
    with closing(journal(data / "journal-0.db")) as left:
        left.commit([final("last")])  # and no checkpoint, as after a kill
        for name in ("journal-0.db", "journal-0.db-wal"):
            (data / f"copy-of-{name}").write_bytes((data / name).read_bytes())
    for name in ("journal-0.db", "journal-0.db-wal"):
        (data / f"copy-of-{name}").rename(data / name)
    kept = restored(archive, data)

    assert ids(kept / "journal-0.db") == ["1", "2", "3", "open", "last"]


def test_a_running_gateway_is_not_restored_under_its_feet(archive: Path, data: Path) -> None:
    """A held lock of a journal or a usage journal refuses the restore in one line."""
    filled(data)
    before = contents(data)
    with (
        own_journal(data, is_strict=False, key=KEY),
        pytest.raises(BackupError, match=r"is in use \(journal-0\.lock is held\): stop the"),
        opened(archive, data),
    ):
        pass
    with (
        closing(UsageFile(data, MONTH)),
        pytest.raises(BackupError, match=r"is in use \(budgets-0\.lock is held\)"),
        opened(archive, data),
    ):
        pass
    assert contents(data).keys() == before.keys()
    assert NEW not in names_in(data)


def test_a_gateway_that_started_while_the_operator_thinks_is_noticed(
    archive: Path, data: Path
) -> None:
    """It takes files of its own, whose locks are found before anything is replaced."""
    filled(data)
    before = contents(data)
    with opened(archive, data) as ready, own_journal(data, is_strict=False, key=KEY) as started:
        assert started.path.name == "journal-1.db"
        with pytest.raises(BackupError, match=r"journal-1\.lock is held"):
            ready.replace()
    assert contents(data).items() >= before.items()
    assert INTERRUPTED not in names_in(data)


@pytest.mark.parametrize("count", range(9))
def test_a_failure_leaves_all_files_as_they_were(
    count: int, archive: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever file cannot be moved, those moved before it go back."""
    filled(data)
    before, left = contents(data), [count]
    rename = Path.rename

    def failing(path: Path, to: Path) -> Path:
        left[0] -= 1
        if left[0] == -1:
            raise OSError(5, "Input/output error", str(path))
        return rename(path, to)

    with opened(archive, data) as ready, monkeypatch.context() as patch:
        patch.setattr(Path, "rename", failing)
        with pytest.raises(OSError, match="Input/output error"):
            ready.replace()
    assert contents(data) == before
    assert not [name for name in names_in(data) if "restore" in name]


def test_an_interrupted_restore_is_finished_by_another(archive: Path, data: Path) -> None:
    """What the killed one had replaced, and what it had not, is kept with the rest."""
    filled(data)
    before = contents(data)
    (data / INTERRUPTED).mkdir()
    (data / "keys.db").rename(data / INTERRUPTED / "keys.db")
    kept = restored(archive, data)

    assert (kept / INTERRUPTED / "keys.db").read_bytes() == before["keys.db"]
    assert contents(kept) == {name: before[name] for name in before if name != "keys.db"}
    assert INTERRUPTED not in names_in(data)


def test_what_a_killed_restore_extracted_is_removed(archive: Path, data: Path) -> None:
    """Nothing of it was in use yet."""
    (data / NEW).mkdir()
    (data / NEW / "journal-9.db").write_text("half")
    restored(archive, data)

    assert NEW not in names_in(data)
    assert "journal-9.db" not in contents(data)


def archive_of(path: Path, file: Path) -> Path:
    """Write an archive whose manifest agrees with its only file."""
    now = datetime.now(UTC)
    with path.open("wb") as target:
        archive = ArchiveWriter(target)
        member = archive.add(file, 1, now, nothing)
        archive.finish(Manifest("1", now, now, "sqlite", (member,)))
    return path


@pytest.mark.parametrize("name", ["keys.db", "journal-0.db", "budgets-0.db", "paused.json"])
def test_a_file_that_no_gateway_could_open_replaces_none(
    name: str, data: Path, tmp_path: Path
) -> None:
    """An archive may agree with its manifest and hold no database."""
    filled(data)
    before = contents(data)
    (tmp_path / name).write_bytes(b"no database" * 1000)
    with (
        pytest.raises(STORE_ERRORS, match=name),
        opened(archive_of(tmp_path / "b.tar", tmp_path / name), data),
    ):
        pass
    assert contents(data) == before


def test_a_file_of_a_newer_version_replaces_none(data: Path, tmp_path: Path) -> None:
    """This program could not open it."""
    with closing(sqlite3.connect(tmp_path / "keys.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    with (
        pytest.raises(StoreError, match="was written by a newer version"),
        opened(archive_of(tmp_path / "b.tar", tmp_path / "keys.db"), data),
    ):
        pass
