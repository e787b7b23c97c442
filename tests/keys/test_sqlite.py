from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import attrs
import pytest

from ollama_gateway.keys.key import StoreError, digest_of
from ollama_gateway.keys.sqlite import KEYS_FORMAT, SQLiteKeys
from tests.support.spoilt import a_directory, executed, garbage
from tests.support.threads import at_once


def test_only_the_owner_may_read_the_store(tmp_path: Path) -> None:
    """The directory is 0700, the file and its companions 0600, whatever the umask."""
    path = tmp_path / "data" / "keys.db"
    with closing(SQLiteKeys(path)) as store:
        store.create("ci")
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert modes == {"keys.db": 0o600, "keys.db-wal": 0o600, "keys.db-shm": 0o600}


def test_no_file_holds_a_key(tmp_path: Path) -> None:
    """The bytes of the store contain the digest, and neither the text nor its secret."""
    with closing(SQLiteKeys(tmp_path / "keys.db")) as store:
        _, text = store.create("ci")
        content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert digest_of(text).encode() in content
    assert text.split("_")[2].encode() not in content


def test_the_store_may_be_opened_by_many_at_once(tmp_path: Path) -> None:
    """One of several processes makes the tables, and all of them work."""

    def open_and_create(number: int) -> str:
        with closing(SQLiteKeys(tmp_path / "data" / "keys.db")) as store:
            return store.create(f"key-{number}")[0].name

    outcomes = at_once((partial(open_and_create, n) for n in range(8)), StoreError)
    assert sorted(map(str, outcomes)) == [f"key-{n}" for n in range(8)]


def test_a_store_being_made_elsewhere_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If SQLite refuses at once to turn a new file to WAL, opening it retries."""
    path, naps = tmp_path / "keys.db", 0
    with closing(sqlite3.connect(path, timeout=0)) as other:
        other.execute("CREATE TABLE elsewhere (x)")
        other.execute("BEGIN IMMEDIATE")

        def release(_seconds: float) -> None:
            nonlocal naps
            naps += 1
            other.rollback()

        monkeypatch.setattr("time.sleep", release)
        with closing(SQLiteKeys(path)) as store:
            assert store.list() == ()
    assert naps == 1


def test_opening_a_store_drops_no_lock_of_this_process(tmp_path: Path) -> None:
    """After a second store was opened and closed here, another process still sees the first.

    A process that believed it was the last would delete the log that the first writes to.
    """
    path, log = tmp_path / "keys.db", tmp_path / "keys.db-wal"
    visit = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); list(c.execute(sys.argv[2]))"
    with closing(SQLiteKeys(path)) as store:
        key, _ = store.create("ci")
        SQLiteKeys(path).close()
        subprocess.run([sys.executable, "-c", visit, path, "SELECT * FROM keys"], check=True)
        assert log.exists()
        assert store.list() == (key,)
    assert not log.exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (a_directory, "not a file"),
        (garbage, "file is not a database"),
        (
            executed("PRAGMA user_version = 6"),
            r"newer version \(schema 6, this one knows 5\): upgrade",
        ),
        (executed("CREATE TABLE keys (fits INTEGER)"), "table keys already exists"),
    ],
)
def test_what_is_no_store_is_one_clear_line(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    """The error names the file and its fault."""
    path = tmp_path / "keys.db"
    spoil(path)
    with pytest.raises(StoreError, match=message) as caught:
        SQLiteKeys(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_directory_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    """A file in the way of the directory is named as the reason."""
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(StoreError, match=r"File exists|Not a directory"):
        SQLiteKeys(tmp_path / "data" / "keys.db")


def test_a_file_moved_away_is_noticed(tmp_path: Path) -> None:
    """A file moved or replaced while open is an error; put back, it works."""
    path, aside = tmp_path / "keys.db", tmp_path / "aside.db"
    with closing(SQLiteKeys(path)) as store:
        key, text = store.create("ci")
        path.rename(aside)
        with pytest.raises(StoreError, match="is gone"):
            store.find([digest_of(text)])
        garbage(path)
        with pytest.raises(StoreError, match="was replaced while in use: restart"):
            store.find([digest_of(text)])
        aside.replace(path)
        assert store.find([digest_of(text)]) == [key]


def test_a_row_that_something_else_wrote_is_an_error_of_the_store(tmp_path: Path) -> None:
    """Unreadable rights grant nothing."""
    path = tmp_path / "keys.db"
    with closing(SQLiteKeys(path)) as store:
        key, text = store.create("ci")
        with closing(sqlite3.connect(path)) as other, other:
            other.execute("UPDATE keys SET models = 'all of them'")
        with pytest.raises(StoreError, match=f"row of key {key.id} cannot be read"):
            store.find([digest_of(text)])


def test_a_locked_store_is_read_and_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process changes keys, look-ups go on, and a change gives up with a line."""
    impatient = attrs.evolve(KEYS_FORMAT, busy_seconds=0)
    monkeypatch.setattr("ollama_gateway.keys.sqlite.KEYS_FORMAT", impatient)
    path = tmp_path / "keys.db"
    with closing(SQLiteKeys(path)) as store, closing(sqlite3.connect(path)) as other:
        key, text = store.create("ci")
        other.execute("BEGIN IMMEDIATE")
        assert store.find([digest_of(text)]) == [key]
        with pytest.raises(StoreError, match="database is locked"):
            store.create("cd")
