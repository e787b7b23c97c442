"""A key store whose every change is a record in the audit log first."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any, Final, Unpack

import attrs

from ollama_gateway.cli.keys.printing import as_json_of
from ollama_gateway.control.actor import LOCAL
from ollama_gateway.keys.key import APIKey, KeyLimits, new_id
from ollama_gateway.keys.sql import KeyStore
from ollama_gateway.keys.store import Changes, ImportedKey
from ollama_gateway.ledger.operator_change import ChangeRecorder, OperatorChange
from ollama_gateway.models.aliases import Aliases

MOST_IDS: Final = 1000
"""Ids of imported keys that a record names."""


@attrs.frozen
class RecordedKeys:
    """Changes keys and records it; its methods raise what the store's do, and ChangeNotRecorded."""

    store: KeyStore
    recorder: ChangeRecorder

    def create(
        self,
        name: str,
        models: tuple[str, ...],
        endpoints: frozenset[str],
        expires_at: datetime | None,
        limits: KeyLimits,
        user_header: str | None,
        aliases: Aliases,
    ) -> tuple[APIKey, str]:
        """Make a key; return it and its text."""
        key_id = new_id()
        after: dict[str, Any] = {"id": key_id, "name": name}
        with self._making("create", key_id, after=after):
            key, text = self.store.create(
                name, models, endpoints, expires_at, limits, user_header, aliases, key_id=key_id
            )
            after.update(as_json_of(key))
        return key, text

    def update(self, wanted: str, **changes: Unpack[Changes]) -> APIKey:
        """Change a key."""
        before = self.store.get(wanted)
        after = as_json_of(attrs.evolve(before, **changes))
        with self._making("update", before.id, as_json_of(before), after):
            return self.store.update(before.id, **changes)

    def rotate(self, wanted: str, grace: timedelta) -> tuple[APIKey, str]:
        """Give a key a new text."""
        key = self.store.get(wanted)
        document = as_json_of(key)
        after = {**document, "grace_s": grace.total_seconds()}
        with self._making("rotate", key.id, document, after):
            return self.store.rotate(key.id, grace)

    def revoke(self, wanted: str) -> APIKey:
        """Revoke a key."""
        before = self.store.get(wanted)
        after = as_json_of(before)
        with self._making("revoke", before.id, as_json_of(before), after):
            key = self.store.revoke(before.id)
            after.update(as_json_of(key))
        return key

    def delete(self, wanted: str) -> APIKey:
        """Delete a key."""
        before = self.store.get(wanted)
        with self._making("delete", before.id, as_json_of(before)):
            return self.store.delete(before.id)

    def add_imported(self, entries: Sequence[ImportedKey]) -> tuple[APIKey, ...]:
        """Add keys made elsewhere. The record has no names: one may be a misplaced key."""
        after: dict[str, Any] = {"keys": len(entries)}
        with self._making("import", "keys", after=after):
            keys = self.store.add_imported(entries)
            after["ids"] = [key.id for key in keys[:MOST_IDS]]
        return keys

    def _making(
        self,
        verb: str,
        target: str,
        before: dict[str, Any] | None = None,
        after: dict[str, Any] | None = None,
    ) -> AbstractContextManager[None]:
        change = OperatorChange(LOCAL.name, f"keys.{verb}", target, before, after)
        return self.recorder.making(change)
