"""The keys that commands work on: those of a store on this machine, as documents.

The commands know nothing but `KeyPort`, so they are the same wherever the keys are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

import attrs

from ollama_gateway.cli.keys.store import open_key_store
from ollama_gateway.control.actor import LOCAL
from ollama_gateway.control.key_input import changes_from
from ollama_gateway.control.keys import KeyControl, KeyDocument, KeyFilter, key_document
from ollama_gateway.keys.store import ImportedKey
from ollama_gateway.settings import Settings

Given = Mapping[str, Any]
"""Fields of a key's document that are to be set."""
KeyPair = Mapping[str, KeyDocument]
"""A key `before` and `after` a change."""


class KeyPort(Protocol):
    """Lists and changes keys; a key is named by its id or name."""

    def list(self) -> Sequence[KeyDocument]:
        """Return all keys, oldest first."""
        ...

    def get(self, wanted: str) -> KeyDocument:
        """Return a key."""
        ...

    def create(self, given: Given) -> KeyDocument:
        """Make a key; return it with its text in `key`."""
        ...

    def update(self, wanted: str, given: Given) -> KeyDocument:
        """Change a key."""
        ...

    def update_matching(self, match: str, given: Given, *, dry_run: bool) -> Sequence[KeyPair]:
        """Change all keys whose names match a pattern, or return what would change."""
        ...

    def rotate(self, wanted: str, grace_s: float) -> KeyDocument:
        """Give a key a new text; return it with that in `key`."""
        ...

    def revoke(self, wanted: str) -> KeyDocument:
        """Revoke a key."""
        ...

    def delete(self, wanted: str) -> KeyDocument:
        """Delete a key."""
        ...

    def add(self, entries: Sequence[ImportedKey]) -> Sequence[KeyDocument]:
        """Add keys made elsewhere, all or none."""
        ...


@attrs.frozen
class LocalKeys:
    """The keys of a store on this machine."""

    control: KeyControl

    def list(self) -> Sequence[KeyDocument]:
        """Return all keys."""
        return [key_document(key) for key in self.control.matching(KeyFilter())]

    def get(self, wanted: str) -> KeyDocument:
        """Return a key."""
        return key_document(self.control.store.get(wanted))

    def create(self, given: Given) -> KeyDocument:
        """Make a key."""
        key, text = self.control.create(changes_from(given), given.get("id"))
        return {**key_document(key), "key": text}

    def update(self, wanted: str, given: Given) -> KeyDocument:
        """Change a key."""
        return key_document(self.control.update(wanted, partial(changes_from, given)))

    def update_matching(self, match: str, given: Given, *, dry_run: bool) -> Sequence[KeyPair]:
        """Change all keys whose names match."""
        pairs = self.control.changed(KeyFilter(match), partial(changes_from, given))
        if not dry_run:
            self.control.replace(pairs)
        return [{"before": key_document(a), "after": key_document(b)} for a, b in pairs]

    def rotate(self, wanted: str, grace_s: float) -> KeyDocument:
        """Give a key a new text."""
        key, text = self.control.rotate(wanted, timedelta(seconds=grace_s))
        return {**key_document(key), "key": text}

    def revoke(self, wanted: str) -> KeyDocument:
        """Revoke a key."""
        return key_document(self.control.revoke(wanted))

    def delete(self, wanted: str) -> KeyDocument:
        """Delete a key."""
        return key_document(self.control.delete(wanted))

    def add(self, entries: Sequence[ImportedKey]) -> Sequence[KeyDocument]:
        """Add keys made elsewhere."""
        return [key_document(key) for key in self.control.add_imported(entries)]


@contextmanager
def open_keys(settings: Settings) -> Iterator[KeyPort]:
    """Open the keys of the settings; each change is recorded before it is made."""
    from ollama_gateway.cli.recording import local_changes  # noqa: PLC0415 - see there

    with (
        open_key_store(settings) as store,
        local_changes(settings, "gatewayctl keys") as recorder,
    ):
        yield LocalKeys(KeyControl(store, recorder, LOCAL))
