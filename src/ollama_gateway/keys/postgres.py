"""Keys in PostgreSQL: one store for many machines.

Gateways look keys up and `gatewayctl keys` changes them, each over its own connection;
`storage/migrations/` has the tables. An advisory lock, which every role may take, serialises
changes, so the rules of `sql.py` hold as they do in a SQLite file. A gateway's role needs only
SELECT.

The rule: every failure leaves here as a `StoreError` of one line, an outage as a `StoreAway`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import attrs

from ollama_gateway.keys.admin_tokens import AdminToken, StoredToken
from ollama_gateway.keys.key import (
    APIKey,
    KeyLimits,
    KeyRefused,
    StoreAway,
    StoreError,
    utc_now,
)
from ollama_gateway.keys.rows import TOKENS
from ollama_gateway.keys.sql import COLUMNS, LISTED, NAMES, KeyStore
from ollama_gateway.keys.store import KeySecret
from ollama_gateway.models.aliases import aliases_from, text_of
from ollama_gateway.storage.database import DatabaseError
from ollama_gateway.storage.migrations import check_schema

if TYPE_CHECKING:
    from ollama_gateway.storage.postgres import Cursor, Database

_LOCK: Final = 0x6F_67_77_02
"""The advisory lock of changes to keys; `ogw` in ASCII and a number."""

_PLACES: Final = ", ".join("%s" for _ in NAMES)
_SELECT: Final = f"SELECT {COLUMNS} FROM gateway_keys AS keys"  # noqa: S608 - constants
_INSERT: Final = f"INSERT INTO gateway_keys ({LISTED}) VALUES ({_PLACES})"  # noqa: S608
_UPDATE: Final = f"UPDATE gateway_keys SET ({LISTED}) = ROW({_PLACES}) WHERE id = %s"  # noqa: S608
_FIND: Final = (
    f"SELECT secrets.digest, {COLUMNS}"  # noqa: S608 - constants
    " FROM gateway_key_secrets AS secrets JOIN gateway_keys AS keys ON keys.id = secrets.key_id"
    " WHERE secrets.digest = ANY(%s) AND (secrets.expires_at IS NULL OR secrets.expires_at > %s)"
)


class PostgresKeys(KeyStore):
    """The store in a database; it connects on first use.

    See `KeyStore` for the methods and their rules. `now` is the wall clock. Closing
    the store closes the database.
    """

    def __init__(self, database: Database, *, now: Callable[[], datetime] = utc_now) -> None:
        super().__init__(now)
        self._database = database
        self._cursor: Cursor | None = None

    def __repr__(self) -> str:
        return f"<PostgresKeys {self._database.label}>"

    def check(self) -> None:
        """Check that the schema is this version's."""
        with _translated():
            check_schema(self._database)

    def close(self) -> None:
        """Close the connection."""
        self._database.close()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with _translated(), self._database.transaction() as cursor:
            self._cursor = cursor
            yield

    @contextmanager
    def _change(self) -> Iterator[None]:
        with self._reading():
            self._run("SELECT pg_advisory_xact_lock(%s)", _LOCK)
            yield

    def _run(self, sql: str, *values: object) -> Cursor:
        assert self._cursor is not None, "outside of _reading"  # noqa: S101 - a slip of this file
        return self._cursor.execute(sql.encode(), values)

    def _all(self) -> tuple[APIKey, ...]:
        return self._select("ORDER BY keys.created_at, keys.place")

    def _by_id(self, key_id: str) -> tuple[APIKey, ...]:
        return self._select("WHERE keys.id = %s", key_id)

    def _by_name(self, name: str) -> tuple[APIKey, ...]:
        return self._select("WHERE keys.name = %s", name)

    def _select(self, condition: str, *values: str) -> tuple[APIKey, ...]:
        return tuple(map(_to_key, self._run(f"{_SELECT} {condition}", *values).fetchall()))

    def _find(self, digests: Sequence[str], now: datetime) -> Iterator[tuple[str, APIKey]]:
        texts = [
            digest for digest in digests if digest.isprintable()
        ]  # PostgreSQL takes no other text
        rows = self._run(_FIND, texts, now).fetchall()
        return ((row[0], _to_key(row[1:])) for row in rows)

    def _secrets(self) -> Iterator[KeySecret]:
        rows = self._run("SELECT digest, key_id, expires_at FROM gateway_key_secrets").fetchall()
        return (KeySecret(digest, key_id, _in_utc(expires)) for digest, key_id, expires in rows)

    def _has_secret(self, digest: str) -> bool:
        found = self._run("SELECT 1 FROM gateway_key_secrets WHERE digest = %s", digest)
        return found.fetchone() is not None

    def _insert(self, key: APIKey) -> None:
        self._run(_INSERT, *_to_row(key))

    def _write(self, key: APIKey) -> None:
        self._run(_UPDATE, *_to_row(key), key.id)

    def _delete(self, key: APIKey) -> None:
        self._run("DELETE FROM gateway_key_secrets WHERE key_id = %s", key.id)
        self._run("DELETE FROM gateway_keys WHERE id = %s", key.id)

    def _insert_secret(self, secret: KeySecret) -> None:
        self._run(
            "INSERT INTO gateway_key_secrets (digest, key_id, expires_at) VALUES (%s, %s, %s)",
            *attrs.astuple(secret),
        )

    def _end_secrets(self, key: APIKey, when: datetime) -> None:
        self._run(
            "UPDATE gateway_key_secrets SET expires_at = least(expires_at, %s) WHERE key_id = %s",
            when,
            key.id,
        )

    def _forget_secrets(self, now: datetime) -> None:
        self._run("DELETE FROM gateway_key_secrets WHERE expires_at <= %s", now)

    def _tokens(self) -> tuple[StoredToken, ...]:
        rows = self._run(
            f"SELECT {TOKENS} FROM gateway_admin_tokens ORDER BY created_at, place"  # noqa: S608
        ).fetchall()
        return tuple(map(_to_token, rows))

    def _insert_token(self, stored: StoredToken) -> None:
        self._run(
            f"INSERT INTO gateway_admin_tokens ({TOKENS})"  # noqa: S608 - constants
            " VALUES (%s, %s, %s, %s, %s, %s)",
            stored.digest,
            *attrs.astuple(stored.token),
        )

    def _write_token(self, stored: StoredToken) -> None:
        self._run(
            f"UPDATE gateway_admin_tokens SET ({TOKENS})"  # noqa: S608 - constants
            " = ROW(%s, %s, %s, %s, %s, %s) WHERE digest = %s",
            stored.digest,
            *attrs.astuple(stored.token),
            stored.digest,
        )


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        raise (StoreAway if error.is_away else StoreError)(str(error)) from error


def _to_row(key: APIKey) -> tuple[Any, ...]:
    """Return a key's values in the order of `_NAMES`."""
    rights = (list(key.models), sorted(key.endpoints))
    times = (key.created_at, key.expires_at, key.revoked_at)
    own = (key.user_header, text_of(key.aliases))
    return (key.id, key.name, *rights, *times, *own, *attrs.astuple(key.limits))


def _to_key(row: Sequence[Any]) -> APIKey:
    """Read a row; raises `StoreError` if another program wrote it."""
    key_id, name, models, endpoints, created, expires, revoked, header, aliases, *limits = row
    try:
        return APIKey(
            id=key_id,
            name=name,
            models=tuple(models),
            endpoints=frozenset(endpoints),
            created_at=created.astimezone(UTC),
            expires_at=_in_utc(expires),
            revoked_at=_in_utc(revoked),
            limits=KeyLimits(*limits),
            user_header=header,
            aliases=aliases_from(aliases),
        )
    except (KeyRefused, ValueError, TypeError, AttributeError) as error:
        shown = key_id if key_id.isprintable() else "?"
        raise StoreError(f"the row of key {shown} cannot be read: {error}") from error


def _to_token(row: Sequence[Any]) -> StoredToken:
    """Read a row; raises `StoreError` if another program wrote it."""
    digest, name, role, created, expires, revoked = row
    try:
        times = (created.astimezone(UTC), _in_utc(expires), _in_utc(revoked))
        return StoredToken(AdminToken(name, role, *times), digest)
    except (KeyRefused, ValueError, TypeError, AttributeError) as error:
        raise StoreError("the row of an admin token cannot be read") from error


def _in_utc(when: datetime | None) -> datetime | None:
    return when.astimezone(UTC) if when else None
