"""Keys in a SQLite file, `keys.db`: the store of one machine, with nothing to install.

Several processes use the file at once (gateways that look up, `gatewayctl keys` that changes), in
WAL mode, so that nobody who reads waits for somebody who writes. A key may have several secrets
while it is being rotated; the file holds their SHA-256 digests. Each change is one transaction.

The rules: every error of SQLite and of the file system leaves here as a `StoreError` of one line,
and so does a file that was moved or replaced under an open connection: SQLite would go on reading
the old one for ever, where revoked keys still live.
"""

from __future__ import annotations

import hmac
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Unpack

import attrs

from ollama_gateway.keys.key import (
    DEFAULT_GROUPS,
    APIKey,
    KeyLimits,
    KeyRefused,
    StoreError,
    digest_of,
    generate,
    new_id,
    utc_now,
)
from ollama_gateway.keys.rows import (
    COLUMNS,
    INSERT,
    SCHEMA_VERSION,
    STEPS,
    UPDATE,
    to_key,
    to_row,
    to_text,
)
from ollama_gateway.keys.store import Changes, Imported
from ollama_gateway.private_file import identity, make_private

BUSY_SECONDS: Final = 2.0
"""How long a change waits for another process's change."""


class SQLiteKeys:
    """The store in the file at `path`; makes the file, and its directory, where there is none.

    See `KeyStore` for the methods. `now` is the wall clock.

    Raises:
        StoreError: the file cannot be opened, is something else, or is of a newer version.

    """

    def __init__(self, path: Path, *, now: Callable[[], datetime] = utc_now) -> None:
        self._path = path
        self._now = now
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

    def create(
        self,
        name: str,
        models: tuple[str, ...] = ("*",),
        endpoints: frozenset[str] = DEFAULT_GROUPS,
        expires_at: datetime | None = None,
        limits: KeyLimits = KeyLimits(),  # noqa: B008 - frozen
    ) -> tuple[APIKey, str]:
        """Make a key; returns it and its text."""
        secret = generate()
        key = APIKey(secret.id, name, models, endpoints, self._now(), expires_at, limits=limits)
        with self._change():
            self._refuse_taken(name)
            self._insert(key)
            self._insert_secret(key, secret.text)
        return key, secret.text

    def add_imported(self, entries: Sequence[Imported]) -> tuple[APIKey, ...]:
        """Take in keys made elsewhere, all or none."""
        keys = tuple(APIKey(new_id(), entry.name, created_at=self._now()) for entry in entries)
        with self._change():
            problems = [problem for entry in entries for problem in self._problems(entry)]
            if problems:
                raise KeyRefused("\n".join(problems))
            for key, entry in zip(keys, entries, strict=True):
                self._insert(key)
                self._insert_secret(key, entry.text)
        return keys

    def list(self) -> tuple[APIKey, ...]:
        """All keys, oldest first."""
        with self._reading():
            return self._select("ORDER BY keys.created_at, keys.rowid")

    def get(self, wanted: str) -> APIKey:
        """One key, by id or name."""
        with self._reading():
            return self._get(wanted)

    def update(self, wanted: str, **changes: Unpack[Changes]) -> APIKey:
        """Change a key that is not revoked."""
        with self._change():
            before = self._get(wanted)
            if before.revoked_at is not None:
                raise KeyRefused(f"key {before.id} is revoked: create a new one")
            after = attrs.evolve(before, **changes)
            if after.name != before.name:
                self._refuse_taken(after.name)
            self._write(after)
        return after

    def rotate(self, wanted: str, grace: timedelta = timedelta(0)) -> tuple[APIKey, str]:
        """Give an active key a new text; the old ones live on for `grace`."""
        with self._change():
            key, now = self._get(wanted), self._now()
            if not key.is_active(now):
                raise KeyRefused(f"key {key.id} is {key.status(now)}: nothing to rotate")
            secret, ends = generate(key.id), to_text(now + grace)
            self._connection.execute(
                "UPDATE secrets SET expires_at = min(ifnull(expires_at, ?), ?) WHERE key_id = ?",
                (ends, ends, key.id),
            )
            self._connection.execute("DELETE FROM secrets WHERE expires_at <= ?", (to_text(now),))
            self._insert_secret(key, secret.text)
        return key, secret.text

    def revoke(self, wanted: str) -> APIKey:
        """End a key for good."""
        with self._change():
            key = self._get(wanted)
            if key.revoked_at is None:
                key = attrs.evolve(key, revoked_at=self._now())
                self._write(key)
        return key

    def find(self, digests: Sequence[str]) -> Sequence[APIKey | None]:
        """Look up secrets that have not expired, in one query."""
        with self._reading():
            rows = self._connection.execute(
                f"SELECT secrets.digest, {COLUMNS}"  # noqa: S608 - constants
                " FROM secrets JOIN keys ON keys.id = secrets.key_id"
                " WHERE secrets.digest IN (SELECT value FROM json_each(?))"
                " AND (secrets.expires_at IS NULL OR secrets.expires_at > ?)",
                (json.dumps(list(digests)), to_text(self._now())),
            ).fetchall()
            found = {row[0]: (row[0], to_key(row[1:])) for row in rows}
        return [_checked(digest, found.get(digest)) for digest in digests]

    def count_active(self) -> int:
        """How many keys open something now."""
        now = self._now()
        return sum(key.is_active(now) for key in self.list())

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
        if self._version() < SCHEMA_VERSION:
            with self._transaction():
                self._migrate()
        if self._version() > SCHEMA_VERSION:
            raise StoreError(
                f"{self._path} was written by a newer version (schema {self._version()}, this one"
                f" knows {SCHEMA_VERSION}): upgrade this program"
            )

    def _migrate(self) -> None:
        """Take the steps this file lacks: none, where another process was faster."""
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

    def _get(self, wanted: str) -> APIKey:
        # An id wins over a name that looks like it: a key's holder cannot hide it by naming.
        wanted = wanted if wanted.isprintable() else ""  # no name; may be no text for SQLite either
        found = self._select("WHERE keys.id = ?", wanted)
        found = found or self._select("WHERE keys.name = ?", wanted)
        best = [key for key in found if key.revoked_at is None] or found
        if not best:
            raise KeyRefused(f"no key {wanted[:100]!r}: `gatewayctl keys list` shows them")
        if len(best) > 1:
            ids = ", ".join(key.id for key in best)
            raise KeyRefused(f"several keys were named {wanted!r}: say which id ({ids})")
        return best[0]

    def _select(self, condition: str, *values: str) -> tuple[APIKey, ...]:
        rows = self._connection.execute(
            f"SELECT {COLUMNS} FROM keys {condition}",  # noqa: S608 - literals of this file
            values,
        )
        return tuple(to_key(row) for row in rows)

    def _refuse_taken(self, name: str) -> None:
        for key in self._select("WHERE keys.name = ? AND keys.revoked_at IS NULL", name):
            raise KeyRefused(f"name {name!r} is taken by key {key.id}")

    def _problems(self, entry: Imported) -> Iterator[str]:
        if self._select("WHERE keys.name = ? AND keys.revoked_at IS NULL", entry.name):
            yield f"line {entry.line}: a key of this name exists"  # a slip may put a secret there
        digest = (digest_of(entry.text),)
        if self._connection.execute("SELECT 1 FROM secrets WHERE digest = ?", digest).fetchone():
            yield f"line {entry.line}: this key is in the store already"

    def _insert(self, key: APIKey) -> None:
        self._connection.execute(INSERT, to_row(key))

    def _insert_secret(self, key: APIKey, text: str) -> None:
        self._connection.execute(
            "INSERT INTO secrets VALUES (?, ?, NULL)", (digest_of(text), key.id)
        )

    def _write(self, key: APIKey) -> None:
        self._connection.execute(UPDATE, (*to_row(key), key.id))


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """The seam: what SQLite and the file system raise becomes a `StoreError` of one line."""
    try:
        yield
    except FileNotFoundError as error:
        raise StoreError(f"{path} is gone: put it back, or restart what uses it") from error
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or 'cannot be used'}") from error
    except sqlite3.Error as error:
        # Of a text that is not UTF-8 the message holds the text, line feeds and all.
        what = str(error) if str(error).isprintable() else "a row cannot be read"
        raise StoreError(f"{path}: {what}") from error


def _checked(digest: str, found: tuple[str, APIKey] | None) -> APIKey | None:
    if found is None or not hmac.compare_digest(digest, found[0]):
        return None
    return found[1]
