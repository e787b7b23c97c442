"""Operations on keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Final, TypeVar

import attrs

from ollama_gateway.control.errors import NoSuchThing
from ollama_gateway.control.keys import key_document
from ollama_gateway.control.paging import DocumentPage, etag_of, page_after
from ollama_gateway.keys.key import APIKey, KeyRefused, utc_now
from ollama_gateway.keys.location import KeyStoreLocation
from ollama_gateway.keys.sql import KeyStore
from ollama_gateway.server.admin_api.operation import PAGING, AdminCall, AdminReply, Operation
from ollama_gateway.server.admin_api.shapes import (
    Fields,
    Integer,
    ListOf,
    MapOf,
    OrNull,
    Text,
    page_of,
)
from ollama_gateway.storage.batcher import Runner

T = TypeVar("T")

LIMIT: Final = OrNull(Integer("Null is the settings' default, 0 is unlimited.", 0, 10**12))
LIMITS: Final = Fields(
    {
        "requests_per_minute": LIMIT,
        "concurrent_requests": LIMIT,
        "tokens_per_day": LIMIT,
        "tokens_per_month": LIMIT,
    }
)
MOMENT: Final = OrNull(Text(is_time=True))
KEY: Final = Fields(
    {
        "id": Text(),
        "name": Text(),
        "status": Text(one_of=("active", "expired", "revoked")),
        "models": ListOf(Text(), "Names and patterns of models."),
        "endpoints": ListOf(Text()),
        "limits": LIMITS,
        "user_header": OrNull(Text()),
        "aliases": MapOf(ListOf(Text()), "Models by alias."),
        "created_at": MOMENT,
        "expires_at": MOMENT,
        "revoked_at": MOMENT,
    }
)


@attrs.frozen
class KeyOperations:
    """Operations on the keys of a store, each over a connection of its own."""

    location: KeyStoreLocation
    runner: Runner

    def all(self) -> Sequence[Operation]:
        """Return the operations."""
        return [
            Operation(
                "GET", "/keys", "viewer", "List keys.", self._list, page_of(KEY), query=PAGING
            ),
            Operation(
                "GET", "/keys/{id}", "viewer", "Get a key.", self._get, KEY, honours_etag=True
            ),
        ]

    async def _list(self, call: AdminCall) -> AdminReply:
        def found(store: KeyStore) -> DocumentPage:
            show = partial(key_document, now=utc_now())
            return page_after(store.list(), _place, call.query.get("cursor"), call.limit, show)

        return AdminReply((await self._with_store(found)).document())

    async def _get(self, call: AdminCall) -> AdminReply:
        key = await self._with_store(lambda store: _named(store, call.path["id"]))
        document = key_document(key, utc_now())
        return AdminReply(document, etag_of(document))

    async def _with_store(self, work: Callable[[KeyStore], T]) -> T:
        def done() -> T:
            with closing(self.location.open()) as store:
                return work(store)

        return await self.runner(done)


def _place(key: APIKey) -> tuple[str, str]:
    return key.created_at.isoformat(), key.id


def _named(store: KeyStore, key_id: str) -> APIKey:
    """Return the key of an id: a name may pass to another key. Raises NoSuchThing."""
    try:
        key = store.get(key_id)
    except KeyRefused as error:
        raise NoSuchThing(str(error)) from None
    if key.id != key_id:
        raise NoSuchThing("keys are named by their ids here")
    return key
