"""The keys that commands work on: this machine's, or those of a gateway that is asked by HTTP.

The commands know nothing but `KeyPort`, so they are the same wherever the keys are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

import attrs

from ollama_gateway.cli.keys.store import exit_on_refusal, open_key_store
from ollama_gateway.cli.load_settings import load_for_stores
from ollama_gateway.cli.remote.address import AdminAddress
from ollama_gateway.cli.remote.choice import GatewayChoice
from ollama_gateway.control.actor import LOCAL
from ollama_gateway.control.key_input import changes_from
from ollama_gateway.control.keys import KeyControl, KeyDocument, KeyFilter, key_document
from ollama_gateway.keys.sql import KeyStore
from ollama_gateway.keys.store import ImportedKey
from ollama_gateway.settings import Settings

Given = Mapping[str, Any]
"""Fields of a key's document that are to be set."""
KeyPair = Mapping[str, KeyDocument]
"""A key `before` and `after` a change."""


class KeyPort(Protocol):
    """Lists and changes keys; a key is named by its id or name."""

    @property
    def address(self) -> AdminAddress:
        """Where the gateway is asked that knows the usage of limits."""
        ...

    def next_steps(self, text: str) -> Sequence[str]:
        """Return commands that use a key just made, if they are known."""
        ...

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
class KeysHere:
    """The keys of a store on this machine; each change is recorded before it is made."""

    store: KeyStore
    settings: Settings

    @property
    def address(self) -> AdminAddress:
        """Where the running gateway is asked."""
        return AdminAddress.of_settings(self.settings.server)

    def next_steps(self, text: str) -> Sequence[str]:
        """Return commands that use a key just made."""
        from ollama_gateway.cli.next_step import after_new_key  # noqa: PLC0415 - for people alone

        return after_new_key(self.settings, text)

    def list(self) -> Sequence[KeyDocument]:
        """Return all keys."""
        return [key_document(key) for key in self.store.list()]

    def get(self, wanted: str) -> KeyDocument:
        """Return a key."""
        return key_document(self.store.get(wanted))

    def create(self, given: Given) -> KeyDocument:
        """Make a key."""
        with self._changing() as keys:
            key, text = keys.create(changes_from(given), given.get("id"))
        return {**key_document(key), "key": text}

    def update(self, wanted: str, given: Given) -> KeyDocument:
        """Change a key."""
        with self._changing() as keys:
            return key_document(keys.update(wanted, partial(changes_from, given)))

    def update_matching(self, match: str, given: Given, *, dry_run: bool) -> Sequence[KeyPair]:
        """Change all keys whose names match."""
        with self._changing() as keys:
            pairs = keys.changed(KeyFilter(match), partial(changes_from, given))
            if not dry_run:
                keys.replace(pairs)
        return [{"before": key_document(a), "after": key_document(b)} for a, b in pairs]

    def rotate(self, wanted: str, grace_s: float) -> KeyDocument:
        """Give a key a new text."""
        with self._changing() as keys:
            key, text = keys.rotate(wanted, timedelta(seconds=grace_s))
        return {**key_document(key), "key": text}

    def revoke(self, wanted: str) -> KeyDocument:
        """Revoke a key."""
        with self._changing() as keys:
            return key_document(keys.revoke(wanted))

    def delete(self, wanted: str) -> KeyDocument:
        """Delete a key."""
        with self._changing() as keys:
            return key_document(keys.delete(wanted))

    def add(self, entries: Sequence[ImportedKey]) -> Sequence[KeyDocument]:
        """Add keys made elsewhere."""
        with self._changing() as keys:
            return [key_document(key) for key in keys.add_imported(entries)]

    @contextmanager
    def _changing(self) -> Iterator[KeyControl]:
        from ollama_gateway.cli.recording import local_changes  # noqa: PLC0415 - see there

        with local_changes(self.settings, "gatewayctl keys") as recorder:
            yield KeyControl(self.store, recorder, LOCAL)


@contextmanager
def open_keys(gateway: GatewayChoice) -> Iterator[KeyPort]:
    """Yield the keys of the chosen gateway; end the command if they refuse or are away."""
    far = gateway.remote()
    if far is None:
        settings = load_for_stores(gateway.config)
        with open_key_store(settings) as store:
            yield KeysHere(store, settings)
        return
    from ollama_gateway.cli.keys.there import KeysThere  # noqa: PLC0415 - for them alone
    from ollama_gateway.cli.remote.client import AdminClient  # noqa: PLC0415 - as above

    client = AdminClient(far)
    with exit_on_refusal("gatewayctl keys"), client.ending("gatewayctl keys"):
        yield KeysThere(client)
