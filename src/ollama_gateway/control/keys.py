"""Keys as documents, and the functions that list and change them in a store.

Every change is a record in the audit log first. Everything here blocks, and raises what a store
raises, and ChangeNotRecorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Final

import attrs

from ollama_gateway.control.actor import Actor
from ollama_gateway.control.paging import etag_of
from ollama_gateway.keys.key import (
    ENDPOINT_GROUPS,
    APIKey,
    KeyChanged,
    KeyRefused,
    NoSuchKey,
    check_id,
    new_id,
    utc_now,
)
from ollama_gateway.keys.sql import KeyStore
from ollama_gateway.keys.store import Changes, ImportedKey
from ollama_gateway.ledger.operator_change import ChangeRecorder, OperatorChange
from ollama_gateway.models.aliases import models_of
from ollama_gateway.wire.names import ModelName

KeyDocument = dict[str, Any]
MOST_IDS: Final = 1000
"""Ids of imported keys that a record names."""
Pairs = Sequence[tuple[APIKey, APIKey]]
"""Keys as they were, and as they are to be."""


def key_document(key: APIKey, now: datetime | None = None) -> KeyDocument:
    """Return a key without its text; `now` is the wall clock, for its status."""
    return {
        "id": key.id,
        "name": key.name,
        "status": key.status(now or utc_now()),
        "models": list(key.models),
        "endpoints": [group for group in ENDPOINT_GROUPS if group in key.endpoints],
        "limits": attrs.asdict(key.limits),
        "user_header": key.user_header,
        "aliases": models_of(key.aliases),
        "created_at": shown_moment(key.created_at),
        "expires_at": shown_moment(key.expires_at),
        "revoked_at": shown_moment(key.revoked_at),
    }


def shown_moment(when: datetime | None) -> str | None:
    """Return a moment in UTC to the second (RFC 3339)."""
    return when.isoformat(timespec="seconds").replace("+00:00", "Z") if when else None


def etag_of_key(key: APIKey) -> str:
    """Return the entity tag of a key: that of its document without the status, which time makes."""
    return etag_of({name: value for name, value in key_document(key).items() if name != "status"})


@attrs.frozen
class KeyFilter:
    """Matches keys that agree with all that is given."""

    name: str | None = None
    """A pattern in which `*` stands for any text; case counts."""
    status: str | None = None
    """`active`, `expired` or `revoked`."""
    model: ModelName | None = None
    """That the key may use."""

    def matches(self, key: APIKey) -> bool:
        """Return whether a key agrees."""
        return (
            (self.name is None or fnmatchcase(key.name, self.name))
            and self.status in {None, key.status(utc_now())}
            and (self.model is None or key.principal().may_use(self.model))
        )


@attrs.frozen
class KeyControl:
    """Lists and changes the keys of a store, in an operator's name."""

    store: KeyStore
    recorder: ChangeRecorder
    actor: Actor

    def matching(self, wanted: KeyFilter) -> list[APIKey]:
        """Return the keys that are wanted, oldest first."""
        return [key for key in self.store.list() if wanted.matches(key)]

    def get(self, key_id: str) -> APIKey:
        """Return the key of an id, and of no equal name: a name may pass to another key."""
        key = self.store.get(key_id)
        if key.id != key_id:
            raise NoSuchKey("keys are named by their ids here")
        return key

    def create(self, given: Changes, key_id: str | None = None) -> tuple[APIKey, str]:
        """Make a key, with an id of the caller's choice if there is one; return it and its text.

        What is not given is as in `APIKey`; a name is needed.
        """
        if key_id is not None:
            check_id(key_id)
        made = APIKey(key_id or new_id(), **given)
        after: KeyDocument = key_document(made)
        with self._making("create", made.id, after=after):
            key, text = self.store.create(
                made.name,
                made.models,
                made.endpoints,
                made.expires_at,
                made.limits,
                made.user_header,
                made.aliases,
                key_id=made.id,
            )
            after.update(key_document(key))
        return key, text

    def update(
        self, wanted: str, change: Callable[[APIKey], Changes], etag: str | None = None
    ) -> APIKey:
        """Change a key; `change` returns what is to be different, and `etag` is what it must be.

        Raises KeyChanged.
        """
        before = self._read(wanted, etag)
        after = attrs.evolve(before, **change(before))
        self.replace([(before, after)])
        return after

    def changed(self, wanted: KeyFilter, change: Callable[[APIKey], Changes]) -> Pairs:
        """Return the keys that `replace` would change, for a preview; none that stay the same."""
        keys = [key for key in self.matching(wanted) if key.revoked_at is None]
        pairs = [(key, attrs.evolve(key, **change(key))) for key in keys]
        return [(before, after) for before, after in pairs if before != after]

    def replace(self, pairs: Pairs) -> None:
        """Change keys from what they were to what they are to be, all or none."""
        changes = [
            self._change("update", before.id, key_document(before), key_document(after))
            for before, after in pairs
        ]
        with self.recorder.making_all(changes):
            self.store.replace(pairs)

    def rotate(self, wanted: str, grace: timedelta) -> tuple[APIKey, str]:
        """Give a key a new text; the old one ends after `grace`."""
        key = self.store.get(wanted)
        document = key_document(key)
        after = {**document, "grace_s": grace.total_seconds()}
        with self._making("rotate", key.id, document, after):
            return self.store.rotate(key.id, grace)

    def revoke(self, wanted: str, etag: str | None = None) -> APIKey:
        """Revoke a key for good; `etag` is what it must be. Raises KeyChanged."""
        before = self._read(wanted, etag)
        after = key_document(before)
        with self._making("revoke", before.id, key_document(before), after):
            key = self.store.revoke(before.id)
            after.update(key_document(key))
        return key

    def delete(self, wanted: str) -> APIKey:
        """Delete a key that grants no access any more."""
        before = self.store.get(wanted)
        if before.is_active(utc_now()):
            raise KeyRefused(f"key {before.id} is active: revoke it first")
        with self._making("delete", before.id, key_document(before)):
            return self.store.delete(before.id)

    def add_imported(self, entries: Sequence[ImportedKey]) -> tuple[APIKey, ...]:
        """Add keys made elsewhere. The record has no names: one may be a misplaced key."""
        after: KeyDocument = {"keys": len(entries)}
        with self._making("import", "keys", after=after):
            keys = self.store.add_imported(entries)
            after["ids"] = [key.id for key in keys[:MOST_IDS]]
        return keys

    def _read(self, wanted: str, etag: str | None) -> APIKey:
        key = self.store.get(wanted)
        if etag is not None and etag != etag_of_key(key):
            raise KeyChanged(f"key {key.id} is not as it was when you read it")
        return key

    def _making(
        self,
        verb: str,
        target: str,
        before: KeyDocument | None = None,
        after: KeyDocument | None = None,
    ) -> AbstractContextManager[None]:
        return self.recorder.making(self._change(verb, target, before, after))

    def _change(
        self, verb: str, target: str, before: KeyDocument | None, after: KeyDocument | None
    ) -> OperatorChange:
        return OperatorChange(self.actor.name, f"keys.{verb}", target, before, after)
