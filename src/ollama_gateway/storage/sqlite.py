"""SQLite files: opening, changing and reading them, and translating their errors, in one place.

The rules: every error of SQLite and of the file system leaves as the format's error, one line long,
and so does a file that was moved or replaced while open: SQLite would go on with the old one.
Everything here blocks.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from sqlite3 import Connection
from typing import Final

import attrs

from ollama_gateway.storage.private_file import identity, make_private

__all__ = ["Connection", "FileFormat", "SQLiteFile", "version_of"]

HANGING_SECONDS: Final = 5.0
"""Seconds that a thread waits for another one in the same file."""
PAGES_AT_ONCE: Final = 1000
"""Pages copied between two reports of progress: 4 MB."""
ROOM_FOR_COPY: Final = 1.5
"""Times its size that must be free before a file is copied and migrated."""
_NAP: Final = 0.01


@attrs.frozen
class FileFormat:
    """One kind of file: its newest schema, and how its errors read."""

    version: int
    """The newest schema version this program knows."""
    error: type[Exception]
    """Every failure is one of these, with one line for the operator."""
    user: str = "the gateway"
    """The program to restart if the file was replaced."""
    busy_seconds: float = 1.0
    """Seconds that SQLite waits for a lock on the file."""
    bad_row: tuple[type[Exception], ...] = (ValueError,)
    """What reading a row raises that this program did not write."""
    decode: Callable[[bytes], object] = bytes.decode
    """Reads a text. SQLite's own decoding would put one that is not UTF-8 into its error."""

    @contextmanager
    def translated(self, path: Path) -> Iterator[None]:
        """Translate errors of SQLite, of the file system and of bad rows."""
        try:
            yield
        except FileNotFoundError as error:
            raise self.error(f"{path} is gone: put it back, or restart {self.user}") from error
        except OSError as error:
            where, what = error.filename or path, error.strerror or "cannot be used"
            raise self.error(f"{where}: {what}") from error
        except sqlite3.Error as error:
            # The message may hold names from the file.
            what = str(error) if str(error).isprintable() else "cannot be read"
            raise self.error(f"{path}: {what}") from error
        except self.bad_row as error:
            raise self.error(f"{path}: a row is not as this program writes it") from error

    @contextmanager
    def reading(self, path: Path) -> Iterator[Connection]:
        """Read a file as of one moment, without changing it."""
        with self.translated(path):
            identity(path)  # SQLite would wait for ever for a writer to a pipe
            target = f"{path.absolute().as_uri()}?mode=ro"
            with closing(self.connect(target, is_uri=True)) as connection:
                connection.execute("BEGIN")
                self.refuse_newer(connection, path)
                yield connection

    def copy(
        self, path: Path, target: Path, progress: Callable[[int, int], None] = lambda *_: None
    ) -> int:
        """Copy a file as of one moment, while others write to it; return its schema version.

        The read transaction keeps SQLite from beginning again at each change. Calls `progress`
        with the pages copied and their total. Raises the format's error, also for a damaged file.
        """
        with self.reading(path) as source, closing(sqlite3.connect(target)) as copied:
            source.backup(
                copied,
                pages=PAGES_AT_ONCE,
                progress=lambda _, left, total: progress(total - left, total),
            )
            self._refuse_damaged(copied, path)
            return version_of(copied)

    def check(self, path: Path) -> None:
        """Check that a file is whole and of no newer version; raises the format's error."""
        with self.reading(path) as connection:
            self._refuse_damaged(connection, path)

    def _refuse_damaged(self, connection: Connection, path: Path) -> None:
        if connection.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
            raise self.error(f"{path}: is damaged")

    def connect(self, target: str, *, is_uri: bool = False) -> Connection:
        """Connect; raises errors of SQLite."""
        # A runner's calls come one at a time, but not always from the same thread.
        connection = sqlite3.connect(
            target,
            timeout=self.busy_seconds,
            isolation_level=None,
            check_same_thread=False,
            uri=is_uri,
        )
        connection.text_factory = self.decode
        return connection

    def refuse_newer(self, connection: Connection, path: Path) -> None:
        """Raise the format's error for a schema that this program does not know."""
        if (version := version_of(connection)) > self.version:
            raise self.error(
                f"{path} was written by a newer version (schema {version}, this one knows"
                f" {self.version}): upgrade this program"
            )


class SQLiteFile:
    """A file that is open for writing; the file and its directory are created if missing.

    Raises the format's error. `in_use` is held by the thread that is in the file; an abandoned
    thread may still be there.
    """

    def __init__(self, path: Path, kind: FileFormat) -> None:
        self.path = path
        self.in_use = threading.Lock()
        self._format = kind
        with kind.translated(path):
            self._identity = make_private(path)
            self.connection: Final = kind.connect(str(path))

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def prepare(self, work: Callable[[], None]) -> None:
        """Turn the file to WAL and run `work`; repeat both while another process does the same.

        If two processes turn a new file to WAL, SQLite refuses one without its usual wait.
        """
        deadline = time.monotonic() + self._format.busy_seconds
        while True:
            try:
                self.connection.execute("PRAGMA journal_mode = WAL")
                return work()
            except sqlite3.OperationalError as error:
                is_busy = (
                    error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                )  # also while recovering
                if not is_busy or time.monotonic() > deadline:
                    raise
            time.sleep(_NAP)

    def version(self) -> int:
        """Return the schema version; raises the format's error if it is newer than known."""
        self._format.refuse_newer(self.connection, self.path)
        return version_of(self.connection)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Admit one thread at a time; raises the format's error if the other one hangs."""
        if not self.in_use.acquire(timeout=HANGING_SECONDS):
            raise self._format.error(f"{self.path}: the file system does not answer")
        try:
            with self._format.translated(self.path):
                yield
        finally:
            self.in_use.release()

    def check_identity(self) -> None:
        """Raise the format's error if the file was moved or replaced."""
        if identity(self.path) != self._identity:
            user = self._format.user
            raise self._format.error(f"{self.path} was replaced while in use: restart {user}")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit at the end of the block, or roll back if it raises."""
        self.connection.execute("BEGIN IMMEDIATE")
        with self.connection:
            yield

    def keep_copy(self, version: int) -> None:
        """Copy the file before a migration to `<name>.bak-<version>`, readable by its owner.

        Raises errors of SQLite and of the file system.
        """
        self._check_room()
        descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=f"{self.path.name}.new-")
        os.close(descriptor)
        new = Path(name)
        try:
            copied = self._copy_to(new)
            if copied == version:  # otherwise another process has already copied and migrated it
                new.replace(self.path.with_name(f"{self.path.name}.bak-{version}"))
        finally:
            new.unlink(missing_ok=True)

    def _copy_to(self, target: Path) -> int:
        with closing(sqlite3.connect(target, isolation_level=None)) as copy:
            self.connection.backup(copy)
            return version_of(copy)

    def _check_room(self) -> None:
        """Raise OSError if the disk has no room for a copy: a full one would stop others too."""
        if shutil.disk_usage(self.path.parent).free < ROOM_FOR_COPY * self.path.stat().st_size:
            raise OSError(errno.ENOSPC, "no room for a copy before its migration", str(self.path))


def version_of(connection: Connection) -> int:
    """Return the schema version of a file, 0 for an empty one."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
