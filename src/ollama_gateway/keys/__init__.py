"""API keys: what they are, where they are kept, and who presents one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import datetime
from pathlib import Path
from typing import Final

from ollama_gateway.batcher import Batcher, Runner, in_thread
from ollama_gateway.errors import Unavailable
from ollama_gateway.keys.cache import KeyCache
from ollama_gateway.keys.key import APIKey, KeyRefused, StoreError, utc_now
from ollama_gateway.keys.sqlite import SQLiteKeys

FILE_NAME: Final = "keys.db"
"""The store's file in `storage.data_dir`."""


@asynccontextmanager
async def open_keys(
    path: Path, *, runner: Runner = in_thread, now: Callable[[], datetime] = utc_now
) -> AsyncIterator[KeyCache]:
    """Open the SQLite store at `path` for the length of a block, to identify who asks.

    Raises:
        StoreError: the store cannot be opened.

    """
    with closing(await runner(lambda: SQLiteKeys(path, now=now))) as store:
        async with Batcher(store.find, runner=runner).opened() as batcher:
            yield KeyCache(batcher.submit, now=now)


async def find_key(path: Path, key_id: str, *, runner: Runner = in_thread) -> APIKey | None:
    """Look up one key by its id, on a connection of its own: for operators, not for requests.

    Raises:
        Unavailable: the store cannot be used.

    """

    def find() -> APIKey:
        with closing(SQLiteKeys(path)) as store:
            return store.get(key_id)

    try:
        key = await runner(find)
    except KeyRefused:
        return None
    except StoreError as error:
        raise Unavailable("the key store does not answer", reason="keys_unavailable") from error
    return key if key.id == key_id else None
