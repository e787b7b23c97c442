"""The port of the stores that keep keys, and what is handed to one.

A store is used by `gatewayctl keys`, which changes keys, and by gateways, which look them up. The
rule: a store is handed a key's text only to hash it, and never keeps one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol, TypedDict, Unpack

import attrs

from ollama_gateway.keys.key import APIKey, KeyLimits


class Changes(TypedDict, total=False):
    """What may be changed in a key after it was made; what is left out stays."""

    name: str
    models: tuple[str, ...]
    endpoints: frozenset[str]
    expires_at: datetime | None
    limits: KeyLimits
    user_header: str | None


@attrs.frozen
class ImportedKey:
    """A key made elsewhere, and the line of the file it came from, to name it by."""

    name: str
    text: str = attrs.field(repr=False)
    line: int


@attrs.frozen
class KeySecret:
    """The digest of one text of a key, and until when it opens anything; None is for ever."""

    digest: str = attrs.field(repr=False)
    key_id: str
    expires_at: datetime | None = None


@attrs.frozen
class StoredKey:
    """A key with all its digests, as it moves from one store to another."""

    key: APIKey
    secrets: frozenset[KeySecret]


@attrs.frozen
class MergedKeys:
    """What became of the keys of another store, as they are there, or were here before."""

    added: tuple[APIKey, ...]
    """They were not here."""
    revoked: tuple[APIKey, ...]
    """They were here, had been revoked there, and are so here now."""
    same: tuple[APIKey, ...]
    """They were here, and the same."""
    different: tuple[APIKey, ...]
    """They were here and otherwise; they stayed as they were here."""


class KeyStore(Protocol):
    """Where keys are kept; may block, and is used by one thread at a time.

    Every method raises `StoreError` when the store cannot be used, and `KeyRefused` when what is
    asked cannot be done. A key is named by its id, or by its name where only one unrevoked key
    (or, without one, only one revoked key) has it.
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
        """Make a key; returns it and its text, which is nowhere else."""

    def list(self) -> tuple[APIKey, ...]:
        """All keys, revoked ones too, oldest first."""

    def get(self, wanted: str) -> APIKey:
        """One key, by id or name."""

    def update(self, wanted: str, **changes: Unpack[Changes]) -> APIKey:
        """Change a key that is not revoked; returns it as it is now."""

    def rotate(self, wanted: str, grace: timedelta = ...) -> tuple[APIKey, str]:
        """Give an active key a new text; the old ones live on for `grace`, by default not."""

    def revoke(self, wanted: str) -> APIKey:
        """End a key for good; a revoked one stays as it is."""

    def add_imported(self, entries: Sequence[ImportedKey]) -> tuple[APIKey, ...]:
        """Take in keys made elsewhere, all or none; a refusal names every wrong line."""

    def find(self, digests: Sequence[str]) -> Sequence[APIKey | None]:
        """Look up secrets that have not expired; whether the key is active, the caller judges."""

    def count_active(self) -> int:
        """How many keys open something now."""

    def stored(self) -> tuple[StoredKey, ...]:
        """All keys with the digests of their texts, to move them to another store."""

    def merge(self, others: Sequence[StoredKey]) -> MergedKeys:
        """Take over keys of another store, all or none; of those that are here, an end at most."""

    def check(self) -> None:
        """Make sure that the store is as this version needs it, before it is relied on."""

    def close(self) -> None:
        """Let go of the store; using it afterwards is a `StoreError`."""
