"""What an operator is shown before a restore."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from ollama_gateway.backup.comparing import Consequences, LostUsage, compare, moved_on
from ollama_gateway.keys.key import KeyLimits
from ollama_gateway.keys.sqlite import SQLiteKeys
from ollama_gateway.ledger.read.stored import AuditTableReader
from tests.backup.data import NOW, backed_up, contents, filled, opened, spend, spent_in
from tests.ledger.audit_logs import moved
from tests.ledger.records import final, journal
from tests.limits.spent import TODAY


def shown(archive: Path, data: Path) -> Consequences:
    """Return what a restore would do."""
    with opened(archive, data) as ready:
        return compare(ready.new, data, ready.scratch, NOW)


@attrs.frozen
class Saved:
    """A directory, and its backup."""

    data: Path
    archive: Path
    key_id: str

    def changed(self, change: Callable[[SQLiteKeys], object]) -> Consequences:
        """Change its keys; return what a restore would do."""
        with closing(SQLiteKeys(self.data / "keys.db")) as store:
            change(store)
        return shown(self.archive, self.data)


@pytest.fixture
def saved(data: Path, tmp_path: Path) -> Saved:
    """A directory that was just backed up."""
    key, _ = filled(data)
    backed_up(data, tmp_path / "b.tar")
    return Saved(data, tmp_path / "b.tar", key.id)


def test_an_unchanged_directory_loses_nothing(saved: Saved) -> None:
    """Nothing would come back, and nothing would go."""
    assert shown(saved.archive, saved.data) == Consequences()


def test_a_new_directory_loses_nothing(saved: Saved, tmp_path: Path) -> None:
    """Where nothing is, nothing can be lost."""
    assert shown(saved.archive, tmp_path / "new") == Consequences()


def test_a_key_revoked_since_would_be_valid_again(saved: Saved) -> None:
    """It is the first thing to know about a restore."""
    found = saved.changed(lambda store: store.revoke("alice"))
    assert [key.id for key in found.revived] == [saved.key_id]
    assert found.as_json()["revives"]["keys"] == [{"id": saved.key_id, "name": "alice"}]


def test_a_key_rotated_since_would_have_its_old_text(saved: Saved) -> None:
    """A text that leaked would be valid again, and the new one would not be."""
    found = saved.changed(lambda store: store.rotate("alice"))
    assert [key.id for key in found.rotated] == [saved.key_id]


def test_a_key_changed_since_would_be_as_before(saved: Saved) -> None:
    """With the limits, rights and the name of then."""
    found = saved.changed(lambda store: store.update("alice", limits=KeyLimits(1)))
    assert [key.id for key in found.changed] == [saved.key_id]


def test_a_key_made_since_would_be_lost(saved: Saved) -> None:
    """Its user would get a 401."""
    found = saved.changed(lambda store: store.create("bob"))
    assert [key.name for key in found.lost] == ["bob"]


def test_tokens_used_since_would_be_free_again(saved: Saved) -> None:
    """They are summed by key, of today and of the month, and only the tokens since then count."""
    before = spent_in(saved.data)[saved.key_id, TODAY]
    spend(saved.data, {(saved.key_id, TODAY): before + 30, (saved.key_id, TODAY - 1): 5})
    spend(saved.data, {("gone", TODAY - 40): 7})
    found = shown(saved.archive, saved.data)

    assert found.usage == [LostUsage(saved.key_id, "alice", day=30, month=35)]


def test_records_written_since_would_be_lost(saved: Saved) -> None:
    """Those of journals that are in the backup, and all of those that are not."""
    with closing(journal(saved.data / "journal-0.db")) as opened:  # ends the open request, too
        opened.commit([final("4")])
    with closing(journal(saved.data / "journal-1.db")) as opened:
        opened.commit([final("5"), final("6")])

    assert shown(saved.archive, saved.data).records == 4


def test_a_journal_is_known_by_its_identity(saved: Saved) -> None:
    """Another journal of the same name has nothing in common with that of the backup."""
    (saved.data / "journal-0.db").unlink()
    with closing(journal(saved.data / "journal-0.db")) as opened:
        opened.commit([final("new")])

    assert shown(saved.archive, saved.data).records == 1


@pytest.mark.parametrize("name", ["keys.db", "journal-0.db", "budgets-0.db"])
def test_a_present_file_that_cannot_be_read_is_named(saved: Saved, name: str) -> None:
    """It may be why there is a restore, so it does not prevent one."""
    (saved.data / name).write_bytes(b"no database" * 100)
    found = shown(saved.archive, saved.data)

    [line] = found.unknown
    assert name in line
    assert attrs.evolve(found, unknown=[]) == Consequences()


def test_a_present_key_store_of_an_older_version_is_not_brought_forward(saved: Saved) -> None:
    """A comparison changes nothing."""
    with closing(sqlite3.connect(saved.data / "keys.db")) as connection, connection:
        connection.execute("DROP TABLE admin_tokens")
        connection.execute("ALTER TABLE keys DROP COLUMN aliases")
        connection.execute("PRAGMA user_version = 3")
    before = contents(saved.data)

    assert shown(saved.archive, saved.data) == Consequences()
    assert contents(saved.data) == before


def test_a_journal_that_went_on_in_postgresql_is_left_out(saved: Saved, database_url: str) -> None:
    """Its next records would get numbers that PostgreSQL has already, and break the chain."""
    with (
        closing(AuditTableReader(database_url)) as table,
        opened(saved.archive, saved.data) as ready,
    ):
        assert moved_on(ready.new, table) == []
    moved(saved.data / "journal-0.db", database_url, 2)
    with (
        closing(AuditTableReader(database_url)) as table,
        opened(saved.archive, saved.data) as ready,
    ):
        assert moved_on(ready.new, table) == []
    moved(saved.data / "journal-0.db", database_url)
    with (
        closing(AuditTableReader(database_url)) as table,
        opened(saved.archive, saved.data) as ready,
    ):
        assert moved_on(ready.new, table) == ["journal-0.db"]
