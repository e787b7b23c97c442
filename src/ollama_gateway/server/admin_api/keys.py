"""Operations on keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import timedelta
from functools import partial
from typing import Final, TypeVar

import attrs

from ollama_gateway.control.errors import Problem, WrongInput
from ollama_gateway.control.key_input import changes_from
from ollama_gateway.control.key_shapes import GIVEN, IMPORTED, KEY, SECRET, STATUS
from ollama_gateway.control.keys import (
    KeyControl,
    KeyDocument,
    KeyFilter,
    etag_of_key,
    key_document,
)
from ollama_gateway.control.paging import DocumentPage, page_after
from ollama_gateway.control.shapes import (
    Fields,
    Flag,
    Integer,
    ListOf,
    Number,
    Text,
    page_of,
)
from ollama_gateway.errors import BadRequest
from ollama_gateway.keys.cache import KeyCache
from ollama_gateway.keys.importing import check_import
from ollama_gateway.keys.key import APIKey
from ollama_gateway.keys.location import KeyStoreLocation
from ollama_gateway.keys.store import ImportedKey
from ollama_gateway.ledger.operator_change import ChangeRecorder
from ollama_gateway.server.admin_api.operation import PAGING, AdminCall, AdminReply, Operation
from ollama_gateway.storage.batcher import Runner
from ollama_gateway.wire.names import ModelName

T = TypeVar("T")

CHANGED: Final = ListOf(Fields({"before": KEY, "after": KEY}), most=100_000)
BULK: Final = Fields(
    {
        "match": Text("A pattern of names, in which `*` stands for any text."),
        "changes": Fields(GIVEN, needed=()),
        "dry_run": Flag("Whether to answer what would change, and to change nothing."),
    },
    needed=("match", "changes"),
)
FILTER: Final[Mapping[str, Text | Integer | Flag]] = {
    "name": Text("A pattern of names, in which `*` stands for any text."),
    "status": STATUS,
    "model": Text("A model that the key may use."),
}
GRACE: Final = Fields(
    {"grace_s": Number("Seconds for which the old text stays valid; 0 by default.")}, needed=()
)
MAX_GRACE: Final = 366 * 86_400.0
MOST_IMPORTED: Final = 10_000


@attrs.frozen
class KeyOperations:
    """Operations on the keys of a store, each over a connection of its own."""

    location: KeyStoreLocation
    cache: KeyCache
    recorder: ChangeRecorder
    runner: Runner

    def all(self) -> Sequence[Operation]:
        """Return the operations."""
        query = {**FILTER, **PAGING}
        new = Fields({"id": Text("Of your choice: a repetition is refused."), **GIVEN}, ["name"])
        imports = Fields({"keys": ListOf(IMPORTED, most=MOST_IMPORTED)})
        imported = Fields({"items": ListOf(KEY, most=MOST_IMPORTED)})
        changed = Fields({"changed": CHANGED})
        change = Fields(GIVEN, needed=())
        one, key = "/keys/{id}", partial(Operation, honours_etag=True)
        return [
            Operation("GET", "/keys", "viewer", "List keys.", self._list, page_of(KEY), query),
            key("GET", one, "viewer", "Get a key.", self._get, KEY),
            key("POST", "/keys", "admin", "Make a key.", self._create, SECRET, {}, new, status=201),
            key("PATCH", one, "admin", "Change a key.", self._update, KEY, {}, change),
            Operation(
                "POST",
                f"{one}/rotate",
                "admin",
                "Give a key a new text.",
                self._rotate,
                SECRET,
                takes=GRACE,
                is_body_optional=True,
            ),
            key("POST", f"{one}/revoke", "admin", "Revoke a key for good.", self._revoke, KEY),
            Operation("DELETE", one, "admin", "Delete a revoked or expired key.", self._delete),
            Operation(
                "POST", "/keys/update", "admin", "Change keys.", self._bulk, changed, takes=BULK
            ),
            Operation(
                "POST",
                "/keys/import",
                "admin",
                "Add keys made elsewhere, all or none.",
                self._import,
                imported,
                takes=imports,
            ),
        ]

    async def _list(self, call: AdminCall) -> AdminReply:
        model = call.query.get("model")
        try:
            parsed = None if model is None else ModelName.parse(model)
        except BadRequest as error:
            raise WrongInput([Problem("model", error.message)]) from None
        wanted = KeyFilter(call.query.get("name"), call.query.get("status"), parsed)

        def found(keys: KeyControl) -> DocumentPage:
            cursor = call.query.get("cursor")
            return page_after(keys.matching(wanted), _place, cursor, call.limit, key_document)

        return AdminReply((await self._with_store(call, found)).document())

    async def _get(self, call: AdminCall) -> AdminReply:
        return _reply(await self._with_store(call, lambda keys: keys.get(call.path["id"])))

    async def _create(self, call: AdminCall) -> AdminReply:
        given, key_id = changes_from(call.document), call.document.get("id")
        made, text = await self._change(call, lambda keys: keys.create(given, key_id))
        return _reply(made, text, location=f"/keys/{made.id}")

    async def _update(self, call: AdminCall) -> AdminReply:
        change = partial(changes_from, call.document)

        def done(keys: KeyControl) -> APIKey:
            return keys.update(keys.get(call.path["id"]).id, change, call.if_match)

        return _reply(await self._change(call, done))

    async def _rotate(self, call: AdminCall) -> AdminReply:
        seconds = (call.document or {}).get("grace_s", 0)
        if not 0 <= seconds <= MAX_GRACE:
            raise WrongInput([Problem("/grace_s", f"is not from 0 to {MAX_GRACE:.0f}")])
        grace = timedelta(seconds=seconds)
        key, text = await self._change(
            call, lambda keys: keys.rotate(keys.get(call.path["id"]).id, grace)
        )
        return AdminReply({**key_document(key), "key": text})

    async def _revoke(self, call: AdminCall) -> AdminReply:
        def done(keys: KeyControl) -> APIKey:
            return keys.revoke(keys.get(call.path["id"]).id, call.if_match)

        return _reply(await self._change(call, done))

    async def _delete(self, call: AdminCall) -> AdminReply:
        await self._change(call, lambda keys: keys.delete(keys.get(call.path["id"]).id))
        return AdminReply()

    async def _bulk(self, call: AdminCall) -> AdminReply:
        wanted = KeyFilter(call.document["match"])
        change = partial(changes_from, call.document["changes"])

        def done(keys: KeyControl) -> list[dict[str, KeyDocument]]:
            pairs = keys.changed(wanted, change)
            if not call.document.get("dry_run", False):
                keys.replace(pairs)
            return [{"before": key_document(a), "after": key_document(b)} for a, b in pairs]

        return AdminReply({"changed": await self._change(call, done)})

    async def _import(self, call: AdminCall) -> AdminReply:
        entries = [
            ImportedKey(one["name"], one["key"], number, changes_from(one))
            for number, one in enumerate(call.document["keys"], start=1)
        ]
        check_import(entries)
        keys = await self._change(call, lambda keys: keys.add_imported(entries))
        return AdminReply({"items": [key_document(key) for key in keys]})

    async def _change(self, call: AdminCall, work: Callable[[KeyControl], T]) -> T:
        """Change keys, so that this process sees it at once; others do within a second."""
        try:
            return await self._with_store(call, work)
        finally:
            self.cache.ask_again()

    async def _with_store(self, call: AdminCall, work: Callable[[KeyControl], T]) -> T:
        def done() -> T:
            with closing(self.location.open()) as store:
                return work(KeyControl(store, self.recorder, call.actor))

        return await self.runner(done)


def _reply(key: APIKey, text: str | None = None, location: str | None = None) -> AdminReply:
    secret = {} if text is None else {"key": text}
    return AdminReply({**key_document(key), **secret}, etag_of_key(key), location)


def _place(key: APIKey) -> tuple[str, str]:
    return key.created_at.isoformat(), key.id
