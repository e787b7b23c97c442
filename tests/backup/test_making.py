"""Backups of directories in which gateways and commands are at work."""

from __future__ import annotations

import json
import stat
import tarfile
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from ollama_gateway.backup.archive import MANIFEST
from ollama_gateway.backup.kinds import BackupError
from ollama_gateway.keys.key import StoreError, digest_of
from ollama_gateway.keys.sqlite import SQLiteKeys
from ollama_gateway.ledger.journal import JournalError
from ollama_gateway.limits.charges import OpenRequest
from ollama_gateway.limits.usage_file import UsageFile
from ollama_gateway.storage import sqlite
from tests.backup.data import backed_up, contents, filled, names_in, restored, spent_in
from tests.ledger.records import final, ids, intent, journal, stored
from tests.limits.spent import MONTH, TODAY


def test_a_backup_brings_everything_back(data: Path, tmp_path: Path) -> None:
    """Keys with their texts, records whose chain holds, usage and pauses are those of then."""
    key, text = filled(data)
    backed_up(data, tmp_path / "b.tar")
    restored(tmp_path / "b.tar", tmp_path / "new")

    with closing(SQLiteKeys(tmp_path / "new" / "keys.db")) as store:
        assert store.find([digest_of(text)]) == [key]
    assert ids(tmp_path / "new" / "journal-0.db") == ["1", "2", "3"]
    assert spent_in(tmp_path / "new") == {(key.id, TODAY): 107}  # with the open request's prompt
    assert json.loads((tmp_path / "new" / "paused.json").read_text()) == ["gpu-1"]


def test_a_backup_is_one_private_file_that_tar_reads(data: Path, tmp_path: Path) -> None:
    """Its mode is 0600, nothing else is left, and the manifest has each file's hash and schema."""
    filled(data)
    before = contents(data)
    manifest = backed_up(data, tmp_path / "b.tar")

    assert stat.S_IMODE((tmp_path / "b.tar").stat().st_mode) == 0o600
    assert names_in(tmp_path) == ["b.tar", "data"]
    assert contents(data) == before
    with tarfile.open(tmp_path / "b.tar") as tar:
        names = tar.getnames()
        member = tar.extractfile(MANIFEST)
        assert member is not None
        assert json.load(member) == manifest.as_json()
    assert names == ["journal-0.db", "budgets-0.db", "keys.db", "paused.json", MANIFEST]
    assert [member.schema for member in manifest.files] == [3, 1, 5, 0]


def test_a_key_revoked_during_the_backup_stays_revoked(data: Path, tmp_path: Path) -> None:
    """Keys are copied last, so a long copy of journals revives no key."""
    key, _ = filled(data)

    def progress(name: str, *_: int) -> None:
        if name == "journal-0.db":
            with closing(SQLiteKeys(data / "keys.db")) as store:
                store.revoke(key.id)

    backed_up(data, tmp_path / "b.tar", progress)
    restored(tmp_path / "b.tar", tmp_path / "new")

    with closing(SQLiteKeys(tmp_path / "new" / "keys.db")) as store:
        assert store.get(key.id).revoked_at is not None


def test_a_request_that_ends_during_the_backup_counts_once(data: Path, tmp_path: Path) -> None:
    """Its journal was copied before, its usage is copied after: killed in the one, paid once."""
    key, _ = filled(data)
    at = (key.id, TODAY)
    with ExitStack() as gateway:
        records = gateway.enter_context(closing(journal(data / "journal-0.db")))
        usage = gateway.enter_context(closing(UsageFile(data, MONTH)))
        spent = usage.content.spent[at]
        records.commit([intent("late")])
        usage.write({at: spent}, {"late": OpenRequest(key.id, TODAY, 5)})

        def end() -> None:
            usage.write({at: spent + 40}, {})
            records.commit([final("late")])

        backed_up(data, tmp_path / "b.tar", settle=end)
    restored(tmp_path / "b.tar", tmp_path / "new")

    assert spent_in(tmp_path / "new") == {at: spent + 40}
    with closing(journal(tmp_path / "new" / "journal-0.db")) as opened:
        assert [document["request_id"] for document in opened.killed] == ["late"]


def test_no_record_is_in_a_backup_without_its_tokens(data: Path, tmp_path: Path) -> None:
    """Tokens that a living gateway writes after their record are waited for."""
    key, _ = filled(data)
    at = (key.id, TODAY)
    with ExitStack() as gateway:
        records = gateway.enter_context(closing(journal(data / "journal-0.db")))
        usage = gateway.enter_context(closing(UsageFile(data, MONTH)))
        spent = usage.content.spent[at]
        records.commit([final("paid")])
        backed_up(data, tmp_path / "b.tar", settle=lambda: usage.write({at: spent + 20}, {}))
    restored(tmp_path / "b.tar", tmp_path / "new")

    assert "paid" in ids(tmp_path / "new" / "journal-0.db")
    assert spent_in(tmp_path / "new") == {at: spent + 20}


def test_a_file_is_copied_as_of_one_moment(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records that are written while a journal is copied neither delay nor bend the copy."""
    monkeypatch.setattr(sqlite, "PAGES_AT_ONCE", 10)
    with closing(journal(data / "journal-0.db")) as opened:
        opened.commit([final(f"{number}") for number in range(200)])
        written: list[str] = []

        def progress(name: str, *_: int) -> None:
            written.append(f"during-{len(written)}")
            opened.commit([final(written[-1])])

        backed_up(data, tmp_path / "b.tar", progress)
    restored(tmp_path / "b.tar", tmp_path / "new")

    assert len(written) > 5
    assert len(stored(tmp_path / "new" / "journal-0.db")) == 200


def test_a_backup_replaces_no_file_unasked(data: Path, tmp_path: Path) -> None:
    """An existing file stays as it is, unless that is asked for."""
    filled(data)
    target = tmp_path / "b.tar"
    target.write_text("mine")
    with pytest.raises(BackupError, match="exists: give another name, or --force to replace it"):
        backed_up(data, target)
    assert target.read_text() == "mine"

    backed_up(data, target, is_forced=True)
    assert tarfile.is_tarfile(target)


@pytest.mark.parametrize("name", ["keys.db", "journal-0.db", "journal-7.db-wal", "budgets-0.lock"])
def test_a_backup_never_replaces_a_file_of_the_gateway(data: Path, name: str) -> None:
    """Not even where replacing is asked for."""
    filled(data)
    with pytest.raises(BackupError, match="is the name of one of the gateway's own files"):
        backed_up(data, data / name, is_forced=True)


def test_a_damaged_file_is_named_and_makes_no_backup(data: Path, tmp_path: Path) -> None:
    """What cannot be read whole would not come back."""
    filled(data)
    with (data / "journal-0.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    with pytest.raises(JournalError, match=r"journal-0\.db"):
        backed_up(data, tmp_path / "b.tar")
    assert names_in(tmp_path) == ["data"]


def test_a_newer_file_is_left_to_a_newer_program(data: Path, tmp_path: Path) -> None:
    """An older program does not know what else belongs to it."""
    filled(data)
    with closing(SQLiteKeys(data / "keys.db")) as store:
        store._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="was written by a newer version"):
        backed_up(data, tmp_path / "b.tar")


def test_an_empty_directory_is_not_backed_up(data: Path, tmp_path: Path) -> None:
    """A backup of the wrong directory is noticed when it is made."""
    with pytest.raises(BackupError, match="holds nothing to back up"):
        backed_up(data, tmp_path / "b.tar")
    assert names_in(tmp_path) == ["data"]
