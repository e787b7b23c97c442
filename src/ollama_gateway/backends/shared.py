"""The catalog in Redis: a copy that one gateway writes and another one starts from.

Nothing depends on it: without Redis, or while it is down, every process polls for itself. One hash
has a field for each backend, `{"url", "at", "version", "models", "running"}` as JSON, where `at` is
the time of writing; the version of the layout is in the key's name.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, cast

import anyio
import anyio.to_thread
import attrs
import redis

from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.catalog import Listing, listing_intake
from ollama_gateway.errors import BadRequest
from ollama_gateway.log import get_logger
from ollama_gateway.storage.redis import RedisConnection, RedisFailed
from ollama_gateway.storage.redis_faults import RedisFault
from ollama_gateway.turns import run_through
from ollama_gateway.wire.parts import whole

CATALOG_KEY: Final = "ollama-gateway:1:catalog"
COPY_LIFETIME: Final = 24 * 3600
"""Seconds for which Redis keeps a copy: as long as a model is remembered for routing."""
REDIS_TIMEOUT: Final = 1.0
"""Seconds for one call to Redis."""
COPY_INTERVAL: Final = 1.0
"""Seconds between checks for new listings."""
REFRESH_INTERVAL: Final = 15.0
"""Seconds after which unchanged listings are written again, which shows the copy's age, and
whether Redis works."""

log = get_logger("catalog")


@attrs.frozen
class CatalogCopy:
    """The copy, as read from Redis."""

    listings: Mapping[str, Listing]
    """By name of a backend that still has the same URL."""
    age: float
    """Seconds since the newest listing was written."""

    @property
    def size(self) -> int:
        """The number of different models."""
        return len({key for listing in self.listings.values() for key in listing.models})


class SharedCatalog:
    """Reads and writes the copy; calls block, so make them in a thread."""

    def __init__(self, url: str) -> None:
        self._redis = RedisConnection(url, REDIS_TIMEOUT)

    def read(self, urls: Mapping[str, str]) -> CatalogCopy | None:
        """Read the copy for the backends in `urls` (name -> URL); return None if there is none.

        Skips fields that no gateway has written. Raises RedisFailed.
        """
        fields = self._redis.ask(_fields)
        listings, newest = {}, 0.0
        for name, url in urls.items():
            document = _document(fields.get(name.encode()))
            if document.get("url") == url and isinstance(document.get("at"), int | float):
                listings[name] = Listing.read(
                    document, document, {"models": document.get("running")}, ("*",)
                )
                newest = max(newest, float(document["at"]))
        return CatalogCopy(listings, max(0.0, time.time() - newest)) if listings else None

    def write(self, urls: Mapping[str, str], listings: Mapping[str, Listing]) -> None:
        """Replace the listings of these backends; raises RedisFailed."""
        fields = {name: _text(urls[name], listing) for name, listing in listings.items()}
        self._redis.ask(partial(_replace, fields=fields))


def _fields(client: redis.Redis) -> dict[bytes, bytes]:
    found = client.hgetall(CATALOG_KEY)
    if not isinstance(found, dict):
        raise TypeError("no answer to HGETALL")
    return cast("dict[bytes, bytes]", found)


def _replace(client: redis.Redis, fields: Mapping[str, str]) -> None:
    with client.pipeline(transaction=True) as pipeline:
        pipeline.hset(CATALOG_KEY, mapping=cast("Any", fields))
        pipeline.expire(CATALOG_KEY, COPY_LIFETIME)
        pipeline.execute()


def _document(field: bytes | None) -> dict[str, Any]:
    """Parse a field in parts: `json.loads` would hold the interpreter's lock all the while."""
    try:
        intake = listing_intake()
        intake.add(field or b"{}")
        document = run_through(whole(run_through(intake.end())))
    except (BadRequest, ValueError):
        return {}
    return cast("dict[str, Any]", document) if isinstance(document, dict) else {}


def _text(url: str, listing: Listing) -> str:
    """Serialize a listing entry by entry, for the same reason."""
    models, running = (
        ",".join(map(json.dumps, entries.values())) for entries in (listing.models, listing.running)
    )
    head = json.dumps({"url": url, "at": time.time(), "version": listing.version})
    return f'{head[:-1]},"models":[{models}],"running":[{running}]}}'


@attrs.define(eq=False)
class CatalogCopier:
    """Starts a process from the copy, and keeps the copy up to date."""

    shared: SharedCatalog
    backends: Backends
    failure: RedisFault | None = attrs.field(default=None, init=False)
    """Why the copy could not be read or written last; None if it could."""

    async def restore(self) -> None:
        """Start from the listings of the copy; do nothing if Redis is down."""
        try:
            copy = await anyio.to_thread.run_sync(
                self.shared.read, self._urls(), abandon_on_cancel=True
            )
        except RedisFailed as error:
            self._note(error.fault)
            return
        for backend in self.backends.all if copy else ():
            if copy and (listing := copy.listings.get(backend.name)):
                self.backends.restore(backend, listing, anyio.current_time())

    async def watch(self) -> None:
        """Write what changes, and all of it at times, for ever; retry while Redis is down."""
        written: dict[str, Listing] = {}
        refresh_at = anyio.current_time() + REFRESH_INTERVAL
        while True:
            await anyio.sleep(COPY_INTERVAL)
            if anyio.current_time() >= refresh_at:
                written.clear()
                refresh_at = anyio.current_time() + REFRESH_INTERVAL
            up = {b.name: b.listing for b in self.backends.all if b.is_up and b.listing}
            changed = {name: found for name, found in up.items() if written.get(name) != found}
            if not changed:
                continue
            try:
                await anyio.to_thread.run_sync(
                    self.shared.write, self._urls(), changed, abandon_on_cancel=True
                )
            except RedisFailed as error:
                self._note(error.fault)
            else:
                written.update(changed)
                self._note(None)

    def _note(self, fault: RedisFault | None) -> None:
        """Note why the copy fails, or that it works; log changes only."""
        if fault is not None and fault is not self.failure:
            log.warning("catalog copy failing", cause=fault.word, reason=fault.line)
        if fault is None and self.failure is not None:
            log.info("catalog copy works again")
        self.failure = fault

    def _urls(self) -> dict[str, str]:
        return {backend.name: str(backend.url) for backend in self.backends.all}
