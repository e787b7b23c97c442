"""A cache of admin tokens: finds one by its text, mostly without asking the store.

`look_ups.py` has the rules; expiry is checked by the wall clock at every use.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

from ollama_gateway import clock
from ollama_gateway.keys.admin_tokens import AdminToken
from ollama_gateway.keys.key import digest_of, utc_now
from ollama_gateway.keys.location import KeyStoreLocation
from ollama_gateway.keys.look_ups import Find, LookUps
from ollama_gateway.storage.batcher import Batcher, Runner, close_in_time, in_thread

MOST_TOKENS: Final = 1000
"""Tokens held."""


class AdminTokenCache(LookUps[AdminToken]):
    """Finds tokens; `now` is the wall clock."""

    noun = "admin tokens"

    def __init__(self, find: Find[AdminToken], *, now: Callable[[], datetime] = utc_now) -> None:
        super().__init__(find, MOST_TOKENS)
        self._now = now

    def knows(self, text: str) -> bool:
        """Whether the token was found lately, so that a look-up is no guess."""
        return self._is_usable(digest_of(text), clock.now())

    async def find(self, text: str) -> AdminToken | None:
        """Return the active token with this text; None if there is none.

        Raises:
            Unavailable: the store fails and the cache does not hold the token.

        """
        digest = digest_of(text)
        token = self._fresh(digest) or await self._look_up(digest)
        return token if token is not None and token.is_active(self._now()) else None


@asynccontextmanager
async def open_admin_tokens(
    location: KeyStoreLocation, *, runner: Runner = in_thread, now: Callable[[], datetime] = utc_now
) -> AsyncIterator[AdminTokenCache]:
    """Open the store for the length of a block, over a connection of its own.

    Raises:
        StoreError: the store cannot be opened; if it is only away, the look-ups fail instead.

    """
    store = await runner(lambda: location.open(now))
    batcher = Batcher(store.find_tokens, runner=runner)
    try:
        async with batcher.opened():
            yield AdminTokenCache(batcher.submit, now=now)
    finally:
        if not batcher.has_left_work:
            await close_in_time(store.close, runner)
