"""The models of the backends, as immutable values: replaced whole, read without a lock.

A `Listing` is the result of one backend's last good poll. A `Catalog` is the union over the
backends that are up, in order of preference: the hosts of each model, and the lists that clients
see. The union lists each model once. If backends have different digests under one name, all fields
come from the most recently modified entry (ties: from the preferred backend).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import attrs

from ollama_gateway.errors import BadRequest
from ollama_gateway.wire.large import BodyReader
from ollama_gateway.wire.names import ModelName, matches
from ollama_gateway.wire.structure import DocumentLimits

ModelEntry = dict[str, Any]
"""An entry of `/api/tags` or `/api/ps` as the backend sent it, with unknown fields."""

MIN_DIGEST: Final = 12
"""The `ollama` CLI slices `digest[:12]` and panics on a shorter one (cmd/cmd.go)."""
MAX_LINEAGE: Final = 10
"""Steps from a model to the one whose weights it uses."""
MAX_MODELS: Final = 10_000
"""Models read from one listing; the rest is ignored."""
_LISTED: Final = DocumentLimits(containers=100_000, values=1_000_000)
"""JSON in one listing; enough for `MAX_MODELS`."""
_LONGEST_TEXT: Final = 64 * 1024
"""Bytes kept of one string in a listing."""


def listing_intake() -> BodyReader:
    """Return a parser for a listing that arrives in chunks."""
    return BodyReader(_LISTED, long=_LONGEST_TEXT)


@attrs.frozen
class Listing:
    """One backend's models, loaded models and version, at one poll."""

    version: str
    models: Mapping[str, ModelEntry]
    """By model key (`ModelName.key`), in the backend's order."""
    running: Mapping[str, ModelEntry]
    """The loaded models, from `/api/ps`, by key."""
    _weights: dict[str, str] = attrs.field(factory=dict, init=False, eq=False, repr=False)
    """Answers of `weights_of` for listed models, which every request asks several times."""

    def allowed_by(self, patterns: tuple[str, ...]) -> Listing:
        """Leave out the models that a backend's settings do not let it serve."""
        models, running = (
            {key: entry for key, entry in entries.items() if allows(patterns, _parsed(entry))}
            for entries in (self.models, self.running)
        )
        return attrs.evolve(self, models=models, running=running)

    def with_running(self, document: object, patterns: tuple[str, ...]) -> Listing:
        """Return the listing with another answer to `/api/ps`."""
        return attrs.evolve(self, running=_entries(document, patterns))

    def weights_of(self, key: str) -> str:
        """Return a name for a model's weights; Ollama runs all models of the same weights as one.

        A copy has the digest of its original, and a model made `from` another names that as its
        `parent_model` (server/sched.go: runners are kept by the path of the blob).
        """
        weights = self._weights.get(key)
        if weights is None:
            weights = self._find_weights(key)
            if key in self.models:
                self._weights[key] = weights
        return weights

    def _find_weights(self, key: str) -> str:
        for _ in range(MAX_LINEAGE):
            parent = _parent_of(self.models.get(key) or self.running.get(key))
            if parent is None or parent == key:
                break
            key = parent
        entry = self.models.get(key) or self.running.get(key)
        return key if entry is None else str(entry["digest"])

    @classmethod
    def read(
        cls, version: object, tags: object, running: object, patterns: tuple[str, ...]
    ) -> Listing:
        """Read the three documents of a poll; skip entries that are not models."""
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
    """True if a backend's `models` setting allows the name; `*` allows cloud models too."""
    return any(pattern == "*" or matches(pattern, name) for pattern in patterns)


def is_remote(entry: ModelEntry) -> bool:
    """Return True if the model runs at a `remote_host` (server/routes.go, ListHandler)."""
    return bool(entry.get("remote_host"))


def _parsed(entry: ModelEntry) -> ModelName:
    return ModelName.parse(entry["name"])


def _parent_of(entry: ModelEntry | None) -> str | None:
    """Return the key of the model from which this one was made."""
    details = entry.get("details") if entry else None
    parent = details.get("parent_model") if isinstance(details, dict) else None
    if not isinstance(parent, str) or not parent:
        return None
    try:
        return ModelName.parse(parent).key
    except BadRequest:  # older versions name a file
        return None


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
    """The union over the backends that are up."""

    models: Mapping[str, ModelEntry] = attrs.field(factory=dict)
    """`/api/tags` entries by key, newest first."""
    running: Mapping[str, ModelEntry] = attrs.field(factory=dict)
    """`/api/ps` entries by key, the last to expire first."""
    hosts: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    """Backend names by model key, in order of preference."""
    digest_mismatches: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)
    """By key of a model whose digest differs between backends: each backend's digest, by name."""
    version: str | None = None
    """The lowest version among the backends."""

    @classmethod
    def union(cls, listings: Iterable[tuple[str, Listing]]) -> Catalog:
        """Merge listings, given in order of preference as (backend name, listing)."""
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
    """Sort the newest first, as Ollama does; equal times keep their order."""
    order = sorted(entries.items(), key=lambda item: str(item[1].get(field, "")), reverse=True)
    return dict(order)


def _version_order(version: str) -> tuple[int, ...]:
    numbers = version.partition("-")[0].split(".")
    return tuple(int(number) if number.isdecimal() else 0 for number in numbers)


def short_digest(digest: str) -> str:
    """Shorten a digest as `ollama list` does."""
    return digest.removeprefix("sha256:")[:MIN_DIGEST]


def names(entries: Iterable[ModelEntry]) -> list[str]:
    """Return the names of entries."""
    return [cast("str", entry["name"]) for entry in entries]
