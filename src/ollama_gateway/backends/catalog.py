"""What the backends host, as immutable values: replaced whole, read without a lock.

A `Listing` is what one backend said at its last good poll. A `Catalog` is the union over the
backends that are up, in their order of preference: who hosts what, and the lists that clients
see. The union lists a model once; where two backends hold different digests under one name, all
fields are taken from one of them, the most recently modified (ties: the preferred backend).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import attrs

from ollama_gateway.errors import BadRequest
from ollama_gateway.wire.large import Intake
from ollama_gateway.wire.names import ModelName, matches
from ollama_gateway.wire.structure import Limits

ModelEntry = dict[str, Any]
"""An entry of `/api/tags` or `/api/ps` as the backend sent it, unknown fields included."""

MIN_DIGEST: Final = 12
"""The `ollama` CLI slices `digest[:12]` and panics on a shorter one (cmd/cmd.go)."""
MAX_MODELS: Final = 10_000
"""A bound on what one backend may list."""
_LISTED: Final = Limits(containers=100_000, values=1_000_000)
"""What there may be in a long listing, which is about so many models."""
_LONGEST_TEXT: Final = 64 * 1024
"""Bytes of a text in a long listing that are kept."""


def listing_intake() -> Intake:
    """Takes a listing as it comes."""
    return Intake(_LISTED, long=_LONGEST_TEXT)


@attrs.frozen
class Listing:
    """One backend's models, loaded models and version, at one poll."""

    version: str
    models: Mapping[str, ModelEntry]
    """By the model's key (`ModelName.key`), in the backend's order."""
    running: Mapping[str, ModelEntry]
    """What `/api/ps` said: the warm models, by key."""

    @classmethod
    def read(
        cls, version: object, tags: object, running: object, patterns: tuple[str, ...]
    ) -> Listing:
        """Read the three documents of a poll; entries that are not models are left out."""
        text = version.get("version") if isinstance(version, dict) else None
        return cls(
            version=text[:64] if isinstance(text, str) else "",
            models=_entries(tags, patterns),
            running=_entries(running, patterns),
        )


def _entries(document: object, patterns: tuple[str, ...]) -> dict[str, ModelEntry]:
    models = document.get("models") if isinstance(document, dict) else None
    if not isinstance(models, list):
        return {}
    found: dict[str, ModelEntry] = {}
    for entry in models[:MAX_MODELS]:
        name = _name_of(entry)
        if name is not None and allows(patterns, name):
            found.setdefault(name.key, entry)
    return found


def allows(patterns: tuple[str, ...], name: ModelName) -> bool:
    """A backend's own `models`: `*` means all it has, cloud models included."""
    return any(pattern == "*" or matches(pattern, name) for pattern in patterns)


def _name_of(entry: object) -> ModelName | None:
    if not isinstance(entry, dict):
        return None
    name, digest = entry.get("name"), entry.get("digest")
    if not isinstance(name, str) or not isinstance(digest, str) or len(digest) < MIN_DIGEST:
        return None
    try:
        return ModelName.parse(name)
    except BadRequest:
        return None


@attrs.frozen
class Catalog:
    """The union over backends that are up."""

    models: Mapping[str, ModelEntry] = attrs.field(factory=dict)
    """`/api/tags` entries by key, newest first."""
    running: Mapping[str, ModelEntry] = attrs.field(factory=dict)
    """`/api/ps` entries by key, the one that stays longest first."""
    hosts: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    """Backend names by model key, in order of preference."""
    digest_mismatches: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)
    """Models that differ in digest between backends, by key: each backend's digest, by its name."""
    version: str | None = None
    """The lowest version among the backends."""

    @classmethod
    def union(cls, listings: Iterable[tuple[str, Listing]]) -> Catalog:
        """Join listings given in order of preference as (backend name, listing)."""
        models: dict[str, ModelEntry] = {}
        running: dict[str, ModelEntry] = {}
        digests: dict[str, dict[str, str]] = {}
        versions: list[str] = []
        for backend, listing in listings:
            versions.append(listing.version)
            for key, entry in listing.models.items():
                digests.setdefault(key, {})[backend] = entry["digest"]
                models[key] = _later(models.get(key), entry, "modified_at")
            for key, entry in listing.running.items():
                running[key] = _later(running.get(key), entry, "expires_at")
        return cls(
            models=_sorted(models, "modified_at"),
            running=_sorted(running, "expires_at"),
            hosts={key: tuple(by_backend) for key, by_backend in digests.items()},
            digest_mismatches={
                key: found for key, found in digests.items() if len({*found.values()}) > 1
            },
            version=min((v for v in versions if v), key=_version_order, default=None),
        )


def _later(present: ModelEntry | None, other: ModelEntry, field: str) -> ModelEntry:
    if present is None or str(other.get(field, "")) > str(present.get(field, "")):
        return other
    return present


def _sorted(entries: dict[str, ModelEntry], field: str) -> dict[str, ModelEntry]:
    """Ollama lists the newest first; equal times keep their order, so that lists are stable."""
    order = sorted(entries.items(), key=lambda item: str(item[1].get(field, "")), reverse=True)
    return dict(order)


def _version_order(version: str) -> tuple[int, ...]:
    numbers = version.partition("-")[0].split(".")
    return tuple(int(number) if number.isdecimal() else 0 for number in numbers)


def short_digest(digest: str) -> str:
    """A digest as people read it, as in `ollama list`."""
    return digest.removeprefix("sha256:")[:MIN_DIGEST]


def names(entries: Iterable[ModelEntry]) -> list[str]:
    """The names under which entries are listed."""
    return [cast("str", entry["name"]) for entry in entries]
