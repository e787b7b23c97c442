"""The tables of a store in SQL, and a key as a row: text for times, JSON for lists.

Times are written in UTC and in one width, so that SQL compares their texts as times.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from ollama_gateway.keys.key import APIKey, KeyRefused, StoreError

SCHEMA_VERSION: Final = 1

SCHEMA: Final = (
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
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)

COLUMNS: Final = (
    "keys.id, keys.name, keys.models, keys.endpoints,"
    " keys.created_at, keys.expires_at, keys.revoked_at"
)


def to_text(when: datetime) -> str:
    """Write a time (with its zone) as the store holds it."""
    return when.astimezone(UTC).isoformat(timespec="microseconds")


def to_row(key: APIKey) -> tuple[str | None, ...]:
    """Write a key in the order of `COLUMNS`."""
    return (
        key.id,
        key.name,
        json.dumps(key.models),
        json.dumps(sorted(key.endpoints)),
        to_text(key.created_at),
        to_text(key.expires_at) if key.expires_at else None,
        to_text(key.revoked_at) if key.revoked_at else None,
    )


def to_key(row: Sequence[str]) -> APIKey:
    """Read a row; raises `StoreError` where something else has written into it."""
    key_id, name, models, endpoints, created, expires, revoked = row
    try:
        return APIKey(
            id=key_id,
            name=name,
            models=tuple(json.loads(models)),
            endpoints=frozenset(json.loads(endpoints)),
            created_at=datetime.fromisoformat(created),
            expires_at=datetime.fromisoformat(expires) if expires else None,
            revoked_at=datetime.fromisoformat(revoked) if revoked else None,
        )
    except (KeyRefused, ValueError, TypeError) as error:
        raise StoreError(f"the row of key {key_id} cannot be read: {error}") from error
