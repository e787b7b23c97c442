"""API keys: what they are, where they are kept, and who presents one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import datetime

from ollama_gateway.batcher import Batcher, Runner, in_thread
from ollama_gateway.errors import Unavailable
from ollama_gateway.keys.cache import KeyCache
from ollama_gateway.keys.key import APIKey, KeyRefused, StoreError, utc_now
from ollama_gateway.keys.place import FILE_NAME, Place, PostgresPlace, SQLitePlace, place_of

__all__ = [
    "FILE_NAME",
    "KeyCache",
    "Place",
    "PostgresPlace",
    "SQLitePlace",
    "find_key",
    "open_keys",
    "place_of",
]


@asynccontextmanager
async def open_keys(
    place: Place, *, runner: Runner = in_thread, now: Callable[[], datetime] = utc_now
) -> AsyncIterator[KeyCache]:
    """Open the store at `place` for the length of a block, to identify who asks.

    Raises:
        StoreError: the store cannot be opened; of one that is only away, look-ups say so.

    """
    store = await runner(lambda: place.open(now))
    with closing(store):
        async with Batcher(store.find, runner=runner).opened() as batcher:
            yield KeyCache(batcher.submit, now=now)


async def find_key(place: Place, key_id: str, *, runner: Runner = in_thread) -> APIKey | None:
    """Look up one key by its id, on a connection of its own: for operators, not for requests.

    Raises:
        Unavailable: the store cannot be used.

    """

    def find() -> APIKey:
        with closing(place.open()) as store:
            return store.get(key_id)

    try:
        key = await runner(find)
    except KeyRefused:
        return None
    except StoreError as error:
        raise Unavailable("the key store does not answer", reason="keys_unavailable") from error
    return key if key.id == key_id else None
