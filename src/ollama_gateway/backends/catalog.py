"""The models of the backends, as immutable values: replaced whole, read without a lock.

A `Listing` is the result of one backend's last good poll. A `Catalog` is the union over the
backends that are up, in order of preference: the hosts of each model, and the lists that clients
see. The union lists each model once. If backends have different digests under one name, all fields
come from the most recently modified entry (ties: from the preferred backend).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
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
    source: bytes = attrs.field(default=b"", eq=False, repr=False)
    """The hash of the answer that lists exactly these models; empty if it is not known."""

    def allowed_by(self, patterns: tuple[str, ...]) -> Listing:
        """Leave out the models that a backend's settings do not let it serve."""
        models, running = (
            {key: entry for key, entry in entries.items() if allows(patterns, _parsed(entry))}
            for entries in (self.models, self.running)
        )
        return attrs.evolve(self, models=models, running=running, source=b"")

    def without(self, key: str) -> Listing:
        """Leave out a model."""
        models = {k: entry for k, entry in self.models.items() if k != key}
        return attrs.evolve(self, models=models, source=b"")

    def with_running(self, document: object, patterns: tuple[str, ...]) -> Listing:
        """Return the listing with another answer to `/api/ps`; this one if it says the same."""
        running = _entries(document, patterns)
        return self if running == self.running else attrs.evolve(self, running=running)

    def weights_of(self, key: str) -> str:
        """Return a name for a model's weights; Ollama runs all models of the same weights as one.

        A copy has the digest of its original, and a model made `from` another names that as its
        `parent_model` (server/sched.go: runners are kept by the path of the blob).
        """
        for _ in range(MAX_LINEAGE):
            parent = _parent_of(self.models.get(key) or self.running.get(key))
            if parent is None or parent == key:
                break
            key = parent
        entry = self.models.get(key) or self.running.get(key)
        return key if entry is None else entry["digest"]

    @classmethod
    def read(
        cls, version: object, tags: object, running: object, patterns: tuple[str, ...]
    ) -> Listing:
        """Read the three documents of a poll; skip entries that are not models."""
        return cls(
            version=version_of(version),
            models=_entries(tags, patterns),
            running=_entries(running, patterns),
        )


def version_of(document: object) -> str:
    """Read the answer to `/api/version`; "" if it names none."""
    text = document.get("version") if isinstance(document, dict) else None
    return text[:64] if isinstance(text, str) else ""


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
    """Return True if a backend's `models` setting allows the name; `*` allows cloud models too."""
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
    """The union over the backends that are up; `renewed` makes the next one of this one.

    A change costs what changed, not what there is: 50 backends may list 10,000 models, and each of
    them is polled every few seconds.
    """

    running: Mapping[str, ModelEntry] = attrs.field(factory=dict)
    """`/api/ps` entries by key, the last to expire first."""
    hosts: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    """Backend names by model key, in order of preference."""
    digest_mismatches: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)
    """By key of a model whose digest differs between backends: each backend's digest, by name."""
    version: str | None = None
    """The lowest version among the backends."""
    _entries: Mapping[str, ModelEntry] = attrs.field(factory=dict, repr=False)
    """`/api/tags` entries by key, in no order."""
    _newest_first: Callable[[], Mapping[str, ModelEntry]] = attrs.field(
        default=dict, repr=False, eq=False
    )
    """Sorts the entries when they are first asked for."""
    _listings: Mapping[str, Listing] = attrs.field(factory=dict, repr=False)
    """By backend name, in order of preference."""

    @classmethod
    def union(cls, listings: Iterable[tuple[str, Listing]]) -> Catalog:
        """Merge listings, given in order of preference as (backend name, listing)."""
        return cls().renewed(dict(listings))

    @property
    def models(self) -> Mapping[str, ModelEntry]:
        """`/api/tags` entries by key, newest first; the same object until a model changes."""
        return self._newest_first()

    def renewed(self, listings: Mapping[str, Listing]) -> Catalog:
        """Return the union of these listings, by backend name in the order of preference.

        It is this very catalog if no listing has changed. The order of two backends never changes.
        """
        before = self._listings
        if list(before.items()) == list(listings.items()):
            return self
        hosts, entries = dict(self.hosts), dict(self._entries)
        mismatches = dict(self.digest_mismatches)
        changed = _changed_keys(before, listings)
        for key in changed:
            mismatches.pop(key, None)
            found = {n: li.models[key] for n, li in listings.items() if key in li.models}
            if not found:
                del hosts[key], entries[key]
                continue
            hosts[key] = tuple(found)
            entries[key] = functools.reduce(_later_modified, found.values())
            digests = {name: entry["digest"] for name, entry in found.items()}
            if len({*digests.values()}) > 1:
                mismatches[key] = digests
        versions = [listing.version for listing in listings.values() if listing.version]
        return Catalog(
            running=_running(listings.values()),
            hosts=hosts,
            digest_mismatches=mismatches,
            version=min(versions, key=_version_order, default=None),
            entries=entries,
            newest_first=_sorting(entries, listings) if changed else self._newest_first,
            listings=listings,
        )


def _sorting(
    entries: Mapping[str, ModelEntry], listings: Mapping[str, Listing]
) -> Callable[[], Mapping[str, ModelEntry]]:
    """Return a function that sorts entries once, those of equal times as backends list them."""

    @functools.cache
    def newest_first() -> Mapping[str, ModelEntry]:
        listed = (key for listing in listings.values() for key in listing.models)
        return _sorted({key: entries[key] for key in listed}, "modified_at")

    return newest_first


def _changed_keys(before: Mapping[str, Listing], now: Mapping[str, Listing]) -> set[str]:
    """Return the models whose entry or hosts differ; both mappings have one order of preference."""
    changed: set[str] = set()
    for name in {*before, *now}:
        old = before[name].models if name in before else {}
        new = now[name].models if name in now else {}
        if old is not new:
            changed |= {key for key in {*old, *new} if old.get(key) != new.get(key)}
    return changed


def _running(listings: Iterable[Listing]) -> dict[str, ModelEntry]:
    running: dict[str, ModelEntry] = {}
    for listing in listings:
        for key, entry in listing.running.items():
            running[key] = _later(running.get(key), entry, "expires_at")
    return _sorted(running, "expires_at")


def _later_modified(present: ModelEntry, other: ModelEntry) -> ModelEntry:
    return _later(present, other, "modified_at")


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
