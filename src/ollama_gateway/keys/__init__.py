"""API keys: their rights, their stores, and identifying the caller by one."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import datetime
from typing import Final

from ollama_gateway.errors import Unavailable
from ollama_gateway.keys.cache import KeyCache
from ollama_gateway.keys.key import APIKey, KeyRefused, StoreError, utc_now
from ollama_gateway.keys.location import (
    KEYS_FILE,
    KeyStoreLocation,
    PostgresLocation,
    SQLiteLocation,
    location_of,
)
from ollama_gateway.reasons import Reason
from ollama_gateway.storage.batcher import Batcher, Runner, close_in_time, in_thread

__all__ = [
    "KEYS_FILE",
    "KeyCache",
    "KeyStoreLocation",
    "PostgresLocation",
    "SQLiteLocation",
    "find_key",
    "location_of",
    "open_keys",
]


LOOKS_AT_ONCE: Final = 16
"""Concurrent look-ups by operators; an abandoned one keeps its thread, and may hang there."""
LOOK_SECONDS: Final = 1.0
"""Seconds that a look-up waits for a free slot."""

_LOOKS: Final = threading.BoundedSemaphore(LOOKS_AT_ONCE)


@asynccontextmanager
async def open_keys(
    location: KeyStoreLocation, *, runner: Runner = in_thread, now: Callable[[], datetime] = utc_now
) -> AsyncIterator[KeyCache]:
    """Open the store for the length of a block, and yield a cache that identifies callers.

    Raises:
        StoreError: the store cannot be opened; if it is only away, the look-ups fail instead.

    """
    store = await runner(lambda: location.open(now))
    batcher = Batcher(store.find, runner=runner)
    try:
        async with batcher.opened():
            yield KeyCache(batcher.submit, now=now)
    finally:
        if not batcher.has_left_work:
            await close_in_time(store.close, runner)


async def find_key(
    location: KeyStoreLocation, key_id: str, *, runner: Runner = in_thread
) -> APIKey | None:
    """Look up one key by its id over a new connection: for operators, not for requests.

    Raises:
        Unavailable: the store cannot be used.

    """

    def find() -> APIKey:
        if not _LOOKS.acquire(timeout=LOOK_SECONDS):
            raise StoreError("too many look-ups hang")
        try:
            with closing(location.open()) as store:
                return store.get(key_id)
        finally:
            _LOOKS.release()

    try:
        key = await runner(find)
    except KeyRefused:
        return None
    except StoreError as error:
        raise Unavailable(
            "the key store does not answer", reason=Reason.KEYS_UNAVAILABLE
        ) from error
    return key if key.id == key_id else None
