"""The tables of `keys.db`, and a key as a row: times as text, lists as JSON.

Times are written in UTC and in one width, so SQL compares their texts as times. The schema grows by
steps: a new file takes all of them, an older one those it lacks. A released step never changes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import attrs

from ollama_gateway.keys.admin_tokens import AdminToken, StoredToken
from ollama_gateway.keys.key import APIKey, KeyLimits, KeyRefused, StoreError
from ollama_gateway.keys.sql import LISTED, NAMES
from ollama_gateway.models.aliases import aliases_from, text_of

STEPS: Final = (
    (
        """CREATE TABLE keys (
            id TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            models TEXT NOT NULL,
            endpoints TEXT NOT NULL,
            created_at TEXT NOT NULL,
            expires_at TEXT,
            revoked_at TEXT
        )""",
        "CREATE UNIQUE INDEX one_living_name ON keys (name) WHERE revoked_at IS NULL",
        """CREATE TABLE secrets (
            digest TEXT PRIMARY KEY,
            key_id TEXT NOT NULL REFERENCES keys (id),
            expires_at TEXT
        )""",
    ),
    (
        "ALTER TABLE keys ADD COLUMN requests_per_minute INTEGER",
        "ALTER TABLE keys ADD COLUMN concurrent_requests INTEGER",
        "ALTER TABLE keys ADD COLUMN tokens_per_day INTEGER",
        "ALTER TABLE keys ADD COLUMN tokens_per_month INTEGER",
    ),
    ("ALTER TABLE keys ADD COLUMN user_header TEXT",),
    ("ALTER TABLE keys ADD COLUMN aliases TEXT",),
    (
        """CREATE TABLE admin_tokens (
            digest TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            role TEXT NOT NULL,
            created_at TEXT NOT NULL,
            expires_at TEXT,
            revoked_at TEXT
        )""",
        "CREATE UNIQUE INDEX one_living_token ON admin_tokens (name) WHERE revoked_at IS NULL",
    ),
)
"""The statements that lead from each schema version to the next; 0 is an empty file."""

SCHEMA_VERSION: Final = len(STEPS)

_PLACES: Final = ", ".join("?" for _ in NAMES)

INSERT: Final = f"INSERT INTO keys ({LISTED}) VALUES ({_PLACES})"  # noqa: S608 - constants
"""Takes `to_row`."""
UPDATE: Final = f"UPDATE keys SET ({LISTED}) = ({_PLACES}) WHERE id = ?"  # noqa: S608 - constants
"""Takes `to_row` and an id."""
TOKENS: Final = "digest, name, role, created_at, expires_at, revoked_at"
"""The columns of an admin token."""


def to_text(when: datetime) -> str:
    """Write an aware time as the store holds it."""
    return when.astimezone(UTC).isoformat(timespec="microseconds")


def to_time(text: str | None) -> datetime | None:
    """Read a time; raises ValueError if another program wrote it."""
    return datetime.fromisoformat(text) if text else None


def to_row(key: APIKey) -> tuple[str | int | None, ...]:
    """Return a key's values in the order of `COLUMNS`."""
    return (
        key.id,
        key.name,
        json.dumps(key.models),
        json.dumps(sorted(key.endpoints)),
        to_text(key.created_at),
        to_text(key.expires_at) if key.expires_at else None,
        to_text(key.revoked_at) if key.revoked_at else None,
        key.user_header,
        text_of(key.aliases),
        *attrs.astuple(key.limits),
    )


def to_key(row: Sequence[Any]) -> APIKey:
    """Read a row; raises `StoreError` if another program wrote it."""
    key_id, name, models, endpoints, created, expires, revoked, header, aliases, *limits = row
    try:
        return APIKey(
            id=key_id,
            name=name,
            models=tuple(json.loads(models)),
            endpoints=frozenset(json.loads(endpoints)),
            created_at=datetime.fromisoformat(created),
            expires_at=to_time(expires),
            revoked_at=to_time(revoked),
            limits=KeyLimits(*limits),
            user_header=header,
            aliases=aliases_from(aliases),
        )
    except (KeyRefused, ValueError, TypeError) as error:
        raise StoreError(f"the row of key {key_id} cannot be read: {error}") from error


def to_token_row(stored: StoredToken) -> tuple[str | None, ...]:
    """Return a token's values in the order of `TOKENS`."""
    token = stored.token
    ends = [to_text(when) if when else None for when in (token.expires_at, token.revoked_at)]
    return (stored.digest, token.name, token.role, to_text(token.created_at), *ends)


def to_token(row: Sequence[Any]) -> StoredToken:
    """Read a row; raises `StoreError` if another program wrote it."""
    digest, name, role, created, expires, revoked = row
    try:
        times = (datetime.fromisoformat(created), to_time(expires), to_time(revoked))
        return StoredToken(AdminToken(name, role, *times), digest)
    except (KeyRefused, ValueError, TypeError) as error:
        raise StoreError("the row of an admin token cannot be read") from error
