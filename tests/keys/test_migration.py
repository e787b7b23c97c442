"""Files of the first version, whose keys had no limits of their own."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest

from ollama_gateway.keys.key import APIKey, KeyLimits, StoreError, digest_of
from ollama_gateway.keys.sqlite import SQLiteKeys
from tests.support.threads import at_once

VERSION_1 = """
PRAGMA journal_mode = WAL;
CREATE TABLE keys (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        models TEXT NOT NULL,
        endpoints TEXT NOT NULL,
        created_at TEXT NOT NULL,
        expires_at TEXT,
        revoked_at TEXT
    );
CREATE UNIQUE INDEX one_living_name ON keys (name) WHERE revoked_at IS NULL;
CREATE TABLE secrets (
        digest TEXT PRIMARY KEY,
        key_id TEXT NOT NULL REFERENCES keys (id),
        expires_at TEXT
    );
PRAGMA user_version = 1;
INSERT INTO keys VALUES ('aaaaaaaa', 'ci', '["llama3*", "m1"]', '["inference", "manage"]',
    '2026-01-01T12:00:00.000000+00:00', '2999-01-01T00:00:00.500000+00:00', NULL);
INSERT INTO keys VALUES ('bbbbbbbb', 'gone', '["*"]', '["read"]',
    '2026-01-02T12:00:00.000000+00:00', NULL, '2026-01-03T12:00:00.000000+00:00');
INSERT INTO keys VALUES ('cccccccc', 'gone', '["*"]', '["read"]',
    '2026-01-04T12:00:00.000000+00:00', NULL, NULL);
"""
"""What the first version wrote; never changed, as such files are out there."""
TEXTS = ("key-of-ci", "older-key-of-ci", "key-of-gone", "key-of-the-other-gone")
SECRETS = [
    (digest_of(TEXTS[0]), "aaaaaaaa", None),
    (digest_of(TEXTS[1]), "aaaaaaaa", "2999-01-01T00:00:00.000000+00:00"),
    (digest_of(TEXTS[2]), "bbbbbbbb", None),
    (digest_of(TEXTS[3]), "cccccccc", None),
]
COUNTS = ["requests_per_minute", "concurrent_requests", "tokens_per_day", "tokens_per_month"]


@pytest.fixture
def old(path: Path) -> Path:
    """A file of the first version, with keys in it."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(VERSION_1)
        connection.executemany("INSERT INTO secrets VALUES (?, ?, ?)", SECRETS)
    return path


def asked(path: Path, sql: str) -> list[Any]:
    """The rows of a query, by another connection."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def columns(path: Path) -> list[Any]:
    """The columns of the keys, as SQLite has them."""
    return asked(path, "PRAGMA table_info(keys)")


def test_an_old_file_keeps_everything(old: Path) -> None:
    """Keys, rights, times and secrets stay; limits are the settings' defaults."""
    before = asked(old, "SELECT * FROM keys")
    with closing(SQLiteKeys(old)) as store:
        ci, gone, other = store.list()
        assert list(store.find([digest_of(text) for text in TEXTS])) == [ci, ci, gone, other]
        assert store.get("gone") == other
    assert (ci.id, ci.models, ci.limits) == ("aaaaaaaa", ("llama3*", "m1"), KeyLimits())
    assert ci.endpoints == frozenset({"inference", "manage"})
    assert ci.expires_at is not None
    assert gone.revoked_at is not None
    assert [row[:7] for row in asked(old, "SELECT * FROM keys")] == before
    assert asked(old, "SELECT * FROM secrets") == SECRETS
    assert asked(old, "PRAGMA user_version") == [(5,)]


def test_the_old_file_is_kept_beside_the_new_one(old: Path) -> None:
    """The copy is unchanged, private and named by its version; a new file leaves none."""
    before = asked(old, "SELECT * FROM keys")
    SQLiteKeys(old).close()
    SQLiteKeys(old).close()

    kept = old.with_name("keys.db.bak-1")
    assert asked(kept, "SELECT * FROM keys") == before
    assert asked(kept, "PRAGMA user_version") == [(1,)]
    assert kept.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in old.parent.iterdir()} == {"keys.db", "keys.db.bak-1"}


def test_an_old_file_becomes_like_a_new_one(old: Path, tmp_path: Path) -> None:
    """It has the same columns in the same order, so there is only one kind of file."""
    new = tmp_path / "new.db"
    for file in (old, new):
        SQLiteKeys(file).close()
    assert columns(old) == columns(new)
    assert [column[1] for column in columns(new)][7:] == [*COUNTS, "user_header", "aliases"]


def test_keys_of_an_old_file_are_given_limits(old: Path) -> None:
    """The limits and everything else are there when the file is opened again."""
    with closing(SQLiteKeys(old)) as store:
        after = attrs.evolve(store.get("ci"), limits=KeyLimits(60, 0, None, 10**12))
        store.update("ci", limits=after.limits)
    with closing(SQLiteKeys(old)) as store:
        assert store.get("ci") == after


def test_a_slower_migration_finds_the_work_done(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process migrates between this one's look at the version and its transaction."""
    overtaken = 0

    class Overtaken(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            nonlocal overtaken
            if sql == "BEGIN IMMEDIATE" and not overtaken:
                overtaken += 1
                SQLiteKeys(old).close()
            return super().execute(sql, *parameters)

    connect = partial(sqlite3.connect, factory=Overtaken)
    monkeypatch.setattr("sqlite3.connect", connect)
    with closing(SQLiteKeys(old)) as store:
        assert [key.name for key in store.list()] == ["ci", "gone", "gone"]
    assert overtaken == 1
    assert len(columns(old)) == 13


def test_an_old_file_may_be_opened_by_many_at_once(old: Path) -> None:
    """One of several processes migrates; all work and find every key."""

    def open_and_create(number: int) -> tuple[str, str]:
        with closing(SQLiteKeys(old)) as store:
            made, _ = store.create(f"key-{number}", limits=KeyLimits(number))
            return made.name, store.get("ci").id

    outcomes = at_once((partial(open_and_create, n) for n in range(8)), StoreError)
    assert sorted(map(str, outcomes)) == [str((f"key-{n}", "aaaaaaaa")) for n in range(8)]


def test_a_process_of_the_old_version_goes_on(old: Path) -> None:
    """A process of the old version looks up and changes keys as before; limits survive."""
    with closing(sqlite3.connect(old, isolation_level=None)) as process:
        process.execute("SELECT name FROM keys").fetchall()
        with closing(SQLiteKeys(old)) as store:
            store.update("ci", limits=KeyLimits(60))
            process.execute("UPDATE keys SET (name, revoked_at) = ('cd', NULL) WHERE name = 'ci'")
            assert store.get("cd").limits == KeyLimits(60)


def test_a_migration_that_fails_changes_nothing(old: Path) -> None:
    """If one of the columns exists already, the file stays at the old version."""
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("ALTER TABLE keys ADD COLUMN tokens_per_day INTEGER")
    before = columns(old)
    with pytest.raises(StoreError, match="duplicate column name: tokens_per_day") as caught:
        SQLiteKeys(old)
    assert "\n" not in str(caught.value)
    assert columns(old) == before
    assert asked(old, "PRAGMA user_version") == [(1,)]


@pytest.mark.parametrize("column", COUNTS)
@pytest.mark.parametrize(
    "value", ["'many\n'", "-1", "1.5", "1000000000001", "x'3630'", "cast(x'36ff0a30' AS TEXT)"]
)
def test_a_limit_that_something_else_wrote_is_an_error_of_the_store(
    path: Path, command: SQLiteKeys, column: str, value: str
) -> None:
    """A key whose limits cannot be read opens nothing, and one line says so without the value."""
    key, text = command.create("ci")
    with closing(sqlite3.connect(path)) as other, other:
        other.execute(f"UPDATE keys SET {column} = {value}")  # noqa: S608 - literals of this file
    with pytest.raises(
        StoreError, match=f"(row of key {key.id} cannot be read|a row is not as)"
    ) as caught:
        command.find([digest_of(text)])
    assert str(caught.value).isprintable()
    assert "many" not in str(caught.value)
    assert isinstance(command.create("cd")[0], APIKey)
