"""A cache of keys: turns a credential into a principal, mostly without asking the store.

The cache uses a found key for `FRESH` seconds and then looks it up again, so any change or
revocation takes effect within a second, in every process. It never remembers that a key was
missing, so a new key works at once. Concurrent look-ups form one batch. While the store fails, a
key seen within `STALE` keeps working, and every other credential gets a 503: "cannot say" must not
read as "wrong key".

The rules: a hit awaits nothing; an age counts from before the look-up began, so it is never
understated; every rejected credential raises the same `Unauthorized`.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

import anyio
import attrs

from ollama_gateway import clock
from ollama_gateway.errors import KeyMissing, Unauthorized, Unavailable
from ollama_gateway.keys.key import APIKey, Principal, digest_of, read_claim, utc_now
from ollama_gateway.log import get_logger
from ollama_gateway.reasons import Reason
from ollama_gateway.storage.batcher import BatcherFull, BatchFailed

FRESH: Final = 0.8
"""Seconds a found key is used without a look-up; with the look-up itself, within a second."""
STALE: Final = 600.0
"""Seconds a found key keeps working while the store fails."""
LOOKUP_SECONDS: Final = 2.0
"""Seconds a look-up may take; after that the store counts as failing."""
BRIEF: Final = 0.1
"""Seconds for a known key while the store fails: enough for a store that is back. One look-up in
`DOUBT` still gets `LOOKUP_SECONDS`, or a store that became slow would count as failing."""
DOUBT: Final = 5.0
"""Seconds for which a failure counts; then the next request tries the store again. Otherwise a
gateway that gets no requests because it is not ready would never become ready."""
CAPACITY: Final = 10_000
"""Keys held; the least recently used one is evicted first."""

Find = Callable[[str], Awaitable[APIKey | None]]
"""Looks up one digest; raises `BatchFailed` or `BatcherFull` when it cannot."""

_log = get_logger("keys")


@attrs.frozen
class _Seen:
    """A key that a look-up found; times are of `clock.now()`."""

    key: APIKey
    asked_at: float
    ask_again_at: float


@attrs.frozen
class CacheStatistics:
    """A snapshot of the cache."""

    keys: int
    """Keys held."""
    usable: int
    """Keys that keep working if the store fails."""
    store_failing: bool
    """Whether the last look-up failed, at most `DOUBT` ago."""


class KeyCache:
    """Identifies credentials, calling `find` if it must.

    Args:
        find: looks up a digest, usually `Batcher.submit` over a store's `find`.
        now: the wall clock, for the expiry of keys.
        capacity: keys held.

    """

    def __init__(
        self, find: Find, *, now: Callable[[], datetime] = utc_now, capacity: int = CAPACITY
    ) -> None:
        self._find = find
        self._now = now
        self._capacity = capacity
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._failed_at: float | None = None
        self._waited_at = 0.0
        self._changed_at = -math.inf

    def __repr__(self) -> str:
        state = "works" if self._failed_at is None else "failing"
        return f"<KeyCache {len(self._seen)} keys, store {state}>"

    def statistics(self) -> CacheStatistics:
        """Return a snapshot."""
        now, failed_at = clock.now(), self._failed_at
        usable = sum(self._is_usable(digest, now) for digest in self._seen)
        failing = failed_at is not None and now < failed_at + DOUBT
        return CacheStatistics(len(self._seen), usable, failing)

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

    def ask_again(self) -> None:
        """Ask the store for each key again: one of them may have changed just now."""
        self._changed_at = clock.now()

    def _fresh(self, digest: str) -> APIKey | None:
        seen = self._seen.get(digest)
        if seen is None:
            return None
        self._seen.move_to_end(digest)
        is_fresh = seen.asked_at > self._changed_at and clock.now() < seen.ask_again_at
        return seen.key if is_fresh else None

    async def _look_up(self, digest: str) -> APIKey | None:
        asked_at = clock.now()
        try:
            with anyio.fail_after(self._timeout(digest, asked_at)):
                key = await self._find(digest)
        except (BatchFailed, BatcherFull, TimeoutError) as error:
            return self._without_store(digest, error)
        self._note_store(None)
        self._remember(digest, key, asked_at)
        return key

    def _timeout(self, digest: str, now: float) -> float:
        has_doubt = self._failed_at is not None and now < self._waited_at + DOUBT
        if has_doubt and self._is_usable(digest, now):
            return BRIEF
        self._waited_at = now
        return LOOKUP_SECONDS

    def _is_usable(self, digest: str, now: float) -> bool:
        seen = self._seen.get(digest)
        return seen is not None and now < seen.asked_at + STALE

    def _remember(self, digest: str, key: APIKey | None, asked_at: float) -> None:
        if key is None:
            self._seen.pop(digest, None)
            return
        self._seen[digest] = _Seen(key, asked_at, asked_at + FRESH)
        self._seen.move_to_end(digest)
        if len(self._seen) > self._capacity:
            self._seen.popitem(last=False)

    def _without_store(self, digest: str, error: Exception) -> APIKey:
        self._note_store(error)
        now = clock.now()
        if not self._is_usable(digest, now):
            raise Unavailable(
                "API keys cannot be checked now, try again", reason=Reason.KEYS_UNAVAILABLE
            ) from error
        # A store that hangs must not delay every request by the full timeout.
        seen = self._seen[digest] = attrs.evolve(self._seen[digest], ask_again_at=now + FRESH)
        return seen.key

    def _note_store(self, error: Exception | None) -> None:
        """Log changes only: a failing store fails every request."""
        if error is not None and self._failed_at is None:
            _log.error("key store failing", cause=str(error.__cause__ or error))
        if error is None and self._failed_at is not None:
            _log.info("key store works again")
        self._failed_at = clock.now() if error is not None else None
