"""The values that key stores take and give."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict

import attrs

from ollama_gateway.keys.key import APIKey, KeyLimits
from ollama_gateway.models.aliases import Aliases


class Changes(TypedDict, total=False):
    """The attributes of a key that can change; absent ones stay."""

    name: str
    models: tuple[str, ...]
    endpoints: frozenset[str]
    expires_at: datetime | None
    limits: KeyLimits
    user_header: str | None
    aliases: Aliases


@attrs.frozen
class ImportedKey:
    """A key made elsewhere, and its line in the file, for messages."""

    name: str
    text: str = attrs.field(repr=False)
    line: int
    rights: Changes = attrs.field(factory=Changes)
    """Other than those of a key that is just made."""


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
