"""A gateway's view of the keys, over the real SQLite store and in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import attrs

from ollama_gateway.errors import GatewayError
from ollama_gateway.keys.cache import KeyCache
from ollama_gateway.keys.key import APIKey
from ollama_gateway.keys.sqlite import SQLiteKeys
from ollama_gateway.storage.batcher import Batcher, in_place

START = datetime(2026, 1, 1, tzinfo=UTC)


@attrs.define
class Look:
    """A cache over the real store, and its look-ups."""

    cache: KeyCache
    batches: list[int]
    """How many digests each look-up had."""

    async def status(self, text: str | None) -> int:
        """Return the status for a client with this credential."""
        try:
            await self.cache.identify(text)
        except GatewayError as error:
            return error.status
        return 200


def virtual_now() -> datetime:
    """Return a wall-clock time that follows the virtual time."""
    return START + timedelta(seconds=anyio.current_time())


@asynccontextmanager
async def looking(path: Path, capacity: int = 10_000) -> AsyncIterator[Look]:
    """A gateway's view of the store, in virtual time."""
    with closing(SQLiteKeys(path, now=virtual_now)) as store:
        batches: list[int] = []

        def find(digests: Sequence[str]) -> Sequence[APIKey | None]:
            batches.append(len(digests))
            return store.find(digests)

        async with Batcher(find, runner=in_place).opened() as batcher:
            yield Look(KeyCache(batcher.submit, now=virtual_now, capacity=capacity), batches)
