"""The interface of key stores and the values it takes.

`gatewayctl keys` changes keys in a store, and gateways look them up. The rule: a store gets a key's
text only to hash it, and never stores it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol, TypedDict, Unpack

import attrs

from ollama_gateway.keys.key import APIKey, KeyLimits


class Changes(TypedDict, total=False):
    """The attributes of a key that can change; absent ones stay."""

    name: str
    models: tuple[str, ...]
    endpoints: frozenset[str]
    expires_at: datetime | None
    limits: KeyLimits
    user_header: str | None


@attrs.frozen
class ImportedKey:
    """A key made elsewhere, and its line in the file, for messages."""

    name: str
    text: str = attrs.field(repr=False)
    line: int


@attrs.frozen
class KeySecret:
    """The digest of one text of a key, and when it expires; None is never."""

    digest: str = attrs.field(repr=False)
    key_id: str
    expires_at: datetime | None = None


@attrs.frozen
class StoredKey:
    """A key with all its digests, to copy it between stores."""

    key: APIKey
    secrets: frozenset[KeySecret]


@attrs.frozen
class MergedKeys:
    """The result of merging another store: its keys, or ours as they were before."""

    added: tuple[APIKey, ...]
    """Keys that were new here."""
    revoked: tuple[APIKey, ...]
    """Keys that were active here and revoked there; now revoked here too."""
    same: tuple[APIKey, ...]
    """Keys that were equal in both stores."""
    different: tuple[APIKey, ...]
    """Keys that differed; they stay as they were here."""


class KeyStore(Protocol):
    """A store of keys; methods may block, and only one thread at a time may call them.

    Every method raises `StoreError` if the store cannot be used, and `KeyRefused` if the operation
    is not allowed. A key is named by its id, or by its name if only one unrevoked key (or, without
    one, only one revoked key) has it.
    """

    def create(
        self,
        name: str,
        models: tuple[str, ...] = ...,
        endpoints: frozenset[str] = ...,
        expires_at: datetime | None = None,
        limits: KeyLimits = ...,
        user_header: str | None = None,
    ) -> tuple[APIKey, str]:
        """Make a key; return it and its text, which is stored nowhere."""

    def list(self) -> tuple[APIKey, ...]:
        """Return all keys, revoked ones too, oldest first."""

    def get(self, wanted: str) -> APIKey:
        """Return one key, by id or name."""

    def update(self, wanted: str, **changes: Unpack[Changes]) -> APIKey:
        """Change a key that is not revoked, and return it."""

    def rotate(self, wanted: str, grace: timedelta = ...) -> tuple[APIKey, str]:
        """Give an active key a new text; the old texts expire after `grace`, by default at once."""

    def revoke(self, wanted: str) -> APIKey:
        """Revoke a key for good; a revoked key stays as it is."""

    def delete(self, wanted: str) -> APIKey:
        """Delete a revoked or expired key and return it as it was."""

    def add_imported(self, entries: Sequence[ImportedKey]) -> tuple[APIKey, ...]:
        """Add keys made elsewhere, all or none; the error names every wrong line."""

    def find(self, digests: Sequence[str]) -> Sequence[APIKey | None]:
        """Look up unexpired digests; the caller checks whether the key is active."""

    def count_active(self) -> int:
        """Count the active keys."""

    def stored(self) -> tuple[StoredKey, ...]:
        """Return all keys with their digests, to copy them to another store."""

    def merge(self, others: Sequence[StoredKey]) -> MergedKeys:
        """Add the keys of another store, all or none; existing keys can only become revoked."""

    def check(self) -> None:
        """Check that the store has this version's schema."""

    def close(self) -> None:
        """Close the store; later use raises `StoreError`."""
