"""Open the key store for the gateway, and identify callers by it.

Outside the package's `__init__`, since commands that use the store need no cache and no batches.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import datetime
from typing import Final

from ollama_gateway.errors import Unavailable
from ollama_gateway.keys.cache import KeyCache
from ollama_gateway.keys.key import APIKey, StoreError, utc_now
from ollama_gateway.keys.location import KeyStoreLocation
from ollama_gateway.reasons import Reason
from ollama_gateway.storage.batcher import Batcher, Runner, close_in_time, in_thread

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
    location: KeyStoreLocation, wanted: str, *, runner: Runner = in_thread
) -> APIKey:
    """Look up one key by its id or name over a new connection: for operators, not for requests.

    Raises:
        KeyRefused: there is no such key.
        Unavailable: the store cannot be used.

    """

    def find() -> APIKey:
        if not _LOOKS.acquire(timeout=LOOK_SECONDS):
            raise StoreError("too many look-ups hang")
        try:
            with closing(location.open()) as store:
                return store.get(wanted)
        finally:
            _LOOKS.release()

    try:
        return await runner(find)
    except StoreError as error:
        raise Unavailable(
            "the key store does not answer", reason=Reason.KEYS_UNAVAILABLE
        ) from error
