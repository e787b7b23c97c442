"""The stores that the suite runs over, and their clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs

from ollama_gateway.keys.key import APIKey, digest_of
from ollama_gateway.keys.postgres import PostgresKeys
from ollama_gateway.keys.sql import KeyStore
from ollama_gateway.keys.sqlite import SQLiteKeys
from ollama_gateway.storage.postgres import Database
from tests.support.postgres_connection import UNHURRIED

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
LEGACY = "sk-legacy-0123456789abcdef"
"""A key of another program."""


@attrs.define
class WallClock:
    """A wall clock that the test sets."""

    time: datetime = START

    def __call__(self) -> datetime:
        """Tell the time."""
        return self.time


def open_sqlite(directory: Path, clock: WallClock) -> KeyStore:
    """The store of one machine."""
    return SQLiteKeys(directory / "keys.db", now=clock)


def in_postgres(url: str, clock: WallClock) -> KeyStore:
    """The store of many machines."""
    return PostgresKeys(Database(url, UNHURRIED), now=clock)


def found(store: KeyStore, *texts: str) -> list[APIKey | None]:
    """Look up these texts; return the keys found, in order."""
    return list(store.find([digest_of(text) for text in texts]))
