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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from ollama_gateway.keys.admin_tokens import StoredToken
from ollama_gateway.keys.key import APIKey, StoreError, utc_now
from ollama_gateway.keys.rows import (
    INSERT,
    SCHEMA_VERSION,
    STEPS,
    TOKENS,
    UPDATE,
    to_key,
    to_row,
    to_text,
    to_time,
    to_token,
    to_token_row,
)
from ollama_gateway.keys.sql import COLUMNS, KeyStore
from ollama_gateway.keys.store import KeySecret
from ollama_gateway.storage.sqlite import FileFormat, SQLiteFile

KEYS_FORMAT: Final = FileFormat(SCHEMA_VERSION, StoreError, user="what uses it", busy_seconds=2.0)


class SQLiteKeys(KeyStore):
    """The store in the file at `path`; the file and its directory are created if missing.

    See `KeyStore` for the methods and their rules. `now` is the wall clock.

    Raises:
        StoreError: the file cannot be opened, is no key store, or has a newer schema.

    """

    def __init__(self, path: Path, *, now: Callable[[], datetime] = utc_now) -> None:
        super().__init__(now)
        self._path = path
        self._file = SQLiteFile(path, KEYS_FORMAT)
        self._connection = self._file.connection
        try:
            with KEYS_FORMAT.translated(path):
                self._file.prepare(self._migrate)
        except StoreError:
            self._file.close()
            raise

    def __repr__(self) -> str:
        return f"<SQLiteKeys {self._path}>"

    def check(self) -> None:
        """Do nothing: opening the file has checked its schema."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _migrate(self) -> None:
        if (version := self._file.version()) == SCHEMA_VERSION:
            return
        if version > 0:
            self._file.keep_copy(version)
        with self._file.transaction():
            # Another process may have been faster.
            for step in range(self._file.version(), SCHEMA_VERSION):
                for statement in STEPS[step]:
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {step + 1}")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with KEYS_FORMAT.translated(self._path):
            self._file.check_identity()
            yield

    @contextmanager
    def _change(self) -> Iterator[None]:
        with self._reading(), self._file.transaction():
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

    def _delete(self, key: APIKey) -> None:
        self._connection.execute("DELETE FROM secrets WHERE key_id = ?", (key.id,))
        self._connection.execute("DELETE FROM keys WHERE id = ?", (key.id,))

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

    def _tokens(self) -> tuple[StoredToken, ...]:
        rows = self._connection.execute(
            f"SELECT {TOKENS} FROM admin_tokens ORDER BY created_at, rowid"  # noqa: S608 - constants
        )
        return tuple(map(to_token, rows))

    def _insert_token(self, stored: StoredToken) -> None:
        self._connection.execute(
            f"INSERT INTO admin_tokens ({TOKENS}) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608
            to_token_row(stored),
        )

    def _write_token(self, stored: StoredToken) -> None:
        self._connection.execute(
            f"UPDATE admin_tokens SET ({TOKENS}) = (?, ?, ?, ?, ?, ?) WHERE digest = ?",  # noqa: S608
            (*to_token_row(stored), stored.digest),
        )
