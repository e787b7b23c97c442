"""A cache of keys: turns a credential into a principal, mostly without asking the store.

`look_ups.py` has the rules. Every rejected credential raises the same `Unauthorized`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from ollama_gateway.errors import KeyMissing, Unauthorized
from ollama_gateway.keys.key import APIKey, Principal, digest_of, read_claim, utc_now
from ollama_gateway.keys.look_ups import CAPACITY, Find, LookUps


class KeyCache(LookUps[APIKey]):
    """Identifies credentials; `now` is the wall clock, for the expiry of keys."""

    noun = "API keys"

    def __init__(
        self,
        find: Find[APIKey],
        *,
        now: Callable[[], datetime] = utc_now,
        capacity: int = CAPACITY,
    ) -> None:
        super().__init__(find, capacity)
        self._now = now

    async def identify(self, credential: str | None) -> Principal:
        """Return the principal of this credential.

        Raises:
            Unauthorized: there is no credential, it is no key, or the key is not active.
            Unavailable: the store fails and the cache does not hold the key.

        """
        if credential is None:
            raise KeyMissing
        key = self._fresh(digest_of(credential))
        if key is None:  # a cached text is a key; only other texts need parsing
            key = await self._look_up(read_claim(credential).digest)
        if key is None or not key.is_active(self._now()):
            raise Unauthorized
        return key.principal()
