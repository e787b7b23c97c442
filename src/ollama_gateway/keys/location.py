"""Where the keys are stored: a file of this machine, or a shared database.

The text of a location names the store without its credentials; `open` returns a `KeyStore`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final, TypeAlias

import attrs

from ollama_gateway.keys.key import StoreError, utc_now
from ollama_gateway.keys.postgres import PostgresKeys
from ollama_gateway.keys.sql import KeyStore
from ollama_gateway.keys.sqlite import SQLiteKeys
from ollama_gateway.storage.database import DatabaseError

KEYS_FILE: Final = "keys.db"
"""The store's file in `storage.data_dir`."""

Now = Callable[[], datetime]


@attrs.frozen
class SQLiteLocation:
    """A file of this machine."""

    path: Path
    survives_outages = False
    """Whether gateways keep running while the store is away."""

    def __str__(self) -> str:
        return f"sqlite {self.path}"

    def open(self, now: Now = utc_now) -> KeyStore:
        """Open the file, creating it if missing; blocks, raises `StoreError`."""
        return SQLiteKeys(self.path, now=now)


@attrs.frozen
class PostgresLocation:
    """A database, by its URL; the store connects on first use."""

    url: str = attrs.field(repr=False)
    survives_outages = True

    def __str__(self) -> str:
        try:
            from ollama_gateway.storage.postgres import Database  # noqa: PLC0415

            return f"postgresql ({Database(self.url).label})"
        except DatabaseError:
            return "postgresql"

    def open(self, now: Now = utc_now) -> KeyStore:
        """Return a store that connects on first use; raises `StoreError`."""
        try:
            from ollama_gateway.storage.postgres import Database  # noqa: PLC0415

            database = Database(self.url)
        except DatabaseError as error:
            raise StoreError(str(error)) from None
        return PostgresKeys(database, now=now)


KeyStoreLocation: TypeAlias = SQLiteLocation | PostgresLocation
"""Where a store is; its text names it for the operator."""


def location_of(data_dir: Path, database_url: str | None) -> KeyStoreLocation:
    """Return the location that the settings name."""
    return PostgresLocation(database_url) if database_url else SQLiteLocation(data_dir / KEYS_FILE)
