"""Keys in a SQLite file, `keys.db`: the store of one machine, with nothing to install.

Several processes use the file at once: gateways look keys up, `gatewayctl keys` changes them. In
WAL mode readers do not wait for writers. A key may have several secrets while it is being rotated;
the file holds their SHA-256 digests. `sql.py` has the rules of keys.

The rules: every error of SQLite and of the file system leaves here as a `StoreError` of one line.
So does a file that was moved or replaced while open: SQLite would keep reading the old one, in
which revoked keys are still active.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from ollama_gateway.keys.key import APIKey, StoreError, utc_now
from ollama_gateway.keys.rows import (
    COLUMNS,
    INSERT,
    SCHEMA_VERSION,
    STEPS,
    UPDATE,
    to_key,
    to_row,
    to_text,
    to_time,
)
from ollama_gateway.keys.sql import SQLKeys
from ollama_gateway.keys.store import KeySecret
from ollama_gateway.storage.private_file import identity, make_private

BUSY_SECONDS: Final = 2.0
"""Seconds that a change waits for another process's change."""


class SQLiteKeys(SQLKeys):
    """The store in the file at `path`; the file and its directory are created if missing.

    See `KeyStore` for the methods and `SQLKeys` for their rules. `now` is the wall clock.

    Raises:
        StoreError: the file cannot be opened, is no key store, or has a newer schema.

    """

    def __init__(self, path: Path, *, now: Callable[[], datetime] = utc_now) -> None:
        super().__init__(now)
        self._path = path
        with _translated(path):
            self._identity = make_private(path)
            # A batcher uses the store from one worker thread at a time, and not always the same.
            self._connection = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        try:
            with _translated(path):
                self._prepare_patiently()
        except StoreError:
            self._connection.close()
            raise

    def __repr__(self) -> str:
        return f"<SQLiteKeys {self._path}>"

    def check(self) -> None:
        """Do nothing: opening the file has checked its schema."""

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _prepare_patiently(self) -> None:
        # Of two that turn a new file to WAL, SQLite refuses one at once, without its usual wait.
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._prepare()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        if (version := self._version()) < SCHEMA_VERSION:
            if version > 0:
                self._keep_copy(version)
            with self._transaction():
                self._migrate()
        if self._version() > SCHEMA_VERSION:
            raise StoreError(
                f"{self._path} was written by a newer version (schema {self._version()}, this one"
                f" knows {SCHEMA_VERSION}): upgrade this program"
            )

    def _keep_copy(self, version: int) -> None:
        """Copy the file before a migration to `keys.db.bak-<version>`, readable by its owner."""
        descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=f"{self._path.name}.")
        os.close(descriptor)
        new = Path(name)
        try:
            with closing(sqlite3.connect(new, isolation_level=None)) as copy:
                self._connection.backup(copy)
                [(copied,)] = copy.execute("PRAGMA user_version")
            if copied == version:  # otherwise another process has already copied and migrated it
                new.replace(self._path.with_name(f"{self._path.name}.bak-{version}"))
        finally:
            new.unlink(missing_ok=True)

    def _migrate(self) -> None:
        """Apply the steps that this file lacks."""
        for version in range(self._version(), SCHEMA_VERSION):
            for statement in STEPS[version]:
                self._connection.execute(statement)
            self._connection.execute(f"PRAGMA user_version = {version + 1}")

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with _translated(self._path):
            if identity(self._path) != self._identity:
                raise StoreError(f"{self._path} was replaced while in use: restart what uses it")
            yield

    @contextmanager
    def _change(self) -> Iterator[None]:
        with self._reading(), self._transaction():
            yield

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        with self._connection:  # commits, or rolls back
            yield

    def _all(self) -> tuple[APIKey, ...]:
        return self._select("ORDER BY keys.created_at, keys.rowid")

    def _by_id(self, key_id: str) -> tuple[APIKey, ...]:
        return self._select("WHERE keys.id = ?", key_id)

    def _by_name(self, name: str) -> tuple[APIKey, ...]:
        return self._select("WHERE keys.name = ?", name)

    def _select(self, condition: str, *values: str) -> tuple[APIKey, ...]:
        rows = self._connection.execute(
            f"SELECT {COLUMNS} FROM keys {condition}",  # noqa: S608 - literals of this file
            values,
        )
        return tuple(to_key(row) for row in rows)

    def _find(self, digests: Sequence[str], now: datetime) -> Iterator[tuple[str, APIKey]]:
        rows = self._connection.execute(
            f"SELECT secrets.digest, {COLUMNS}"  # noqa: S608 - constants
            " FROM secrets JOIN keys ON keys.id = secrets.key_id"
            " WHERE secrets.digest IN (SELECT value FROM json_each(?))"
            " AND (secrets.expires_at IS NULL OR secrets.expires_at > ?)",
            (json.dumps(list(digests)), to_text(now)),
        )
        return ((row[0], to_key(row[1:])) for row in rows)

    def _secrets(self) -> Iterator[KeySecret]:
        rows = self._connection.execute("SELECT digest, key_id, expires_at FROM secrets")
        return (KeySecret(digest, key_id, to_time(expires)) for digest, key_id, expires in rows)

    def _has_secret(self, digest: str) -> bool:
        found = self._connection.execute("SELECT 1 FROM secrets WHERE digest = ?", (digest,))
        return found.fetchone() is not None

    def _insert(self, key: APIKey) -> None:
        self._connection.execute(INSERT, to_row(key))

    def _write(self, key: APIKey) -> None:
        self._connection.execute(UPDATE, (*to_row(key), key.id))

    def _insert_secret(self, secret: KeySecret) -> None:
        expires = to_text(secret.expires_at) if secret.expires_at else None
        row = (secret.digest, secret.key_id, expires)
        self._connection.execute("INSERT INTO secrets VALUES (?, ?, ?)", row)

    def _end_secrets(self, key: APIKey, when: datetime) -> None:
        ends = to_text(when)
        self._connection.execute(
            "UPDATE secrets SET expires_at = min(ifnull(expires_at, ?), ?) WHERE key_id = ?",
            (ends, ends, key.id),
        )

    def _forget_secrets(self, now: datetime) -> None:
        self._connection.execute("DELETE FROM secrets WHERE expires_at <= ?", (to_text(now),))


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """The seam: what SQLite and the file system raise becomes a `StoreError` of one line."""
    try:
        yield
    except FileNotFoundError as error:
        raise StoreError(f"{path} is gone: put it back, or restart what uses it") from error
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or 'cannot be used'}") from error
    except ValueError as error:
        raise StoreError(f"{path}: a row cannot be read") from error
    except sqlite3.Error as error:
        # Of a text that is not UTF-8 the message holds the text, line feeds and all.
        what = str(error) if str(error).isprintable() else "a row cannot be read"
        raise StoreError(f"{path}: {what}") from error
