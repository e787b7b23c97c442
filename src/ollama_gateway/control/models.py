"""The models of a running gateway, as documents: where each is, and by which names and rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs

from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.catalog import Catalog, ModelEntry, short_digest
from ollama_gateway.models.aliases import Alias, Aliases
from ollama_gateway.settings.changes import visible
from ollama_gateway.settings.load_rules import ModelSettings
from ollama_gateway.settings.model import fields_of
from ollama_gateway.settings.units import MAX_INT64
from ollama_gateway.wire.large import Steps
from ollama_gateway.wire.names import ModelName, matches

MODELS_IN_A_STEP: Final = 20
_LONGEST: Final = 64
"""Characters of a backend's text in a document."""

ModelDocument = dict[str, Any]


@attrs.frozen
class ModelView:
    """What the documents of models are made of."""

    backends: Backends
    aliases: Aliases
    rules: Sequence[ModelSettings]
    """The tables `[[models]]`; the first that matches holds for a model."""

    @property
    def catalog(self) -> Catalog:
        """The models of the backends that are up."""
        return self.backends.catalog

    def page(self, after: str, limit: int) -> Steps[list[ModelDocument]]:
        """Return the documents of models by name, in steps.

        Args:
            after: the name that they come after; empty for the first ones.
            limit: the most documents.

        """
        entries = self.catalog.models
        named = sorted((str(entry["name"]), key) for key, entry in entries.items())
        yield
        found = [(name, key) for name, key in named if name > after][:limit]
        aliases = _by_model(self.aliases)
        documents: list[ModelDocument] = []
        for number, (_, key) in enumerate(found):
            if number % MODELS_IN_A_STEP == 0:
                yield
            documents.append(self._document(key, entries[key], aliases.get(key, [])))
        return documents

    def _document(self, key: str, entry: ModelEntry, aliases: list[Alias]) -> ModelDocument:
        name = ModelName.parse(entry["name"])
        digests = self.catalog.digest_mismatches.get(key, {})
        return {
            "name": str(entry["name"]),
            "size": _count(entry.get("size")),
            "digest": short_digest(entry["digest"]),
            "modified_at": _text(entry.get("modified_at")),
            "backends": list(self.catalog.hosts.get(key, ())),
            "loaded": self._loaded(key),
            "digests": {backend: short_digest(digest) for backend, digest in digests.items()},
            "aliases": [alias.name for alias in aliases],
            "hidden": key in self.backends.hidden,
            "rules": self._rules_for(name),
        }

    def _loaded(self, key: str) -> list[ModelDocument]:
        """Say where a model is in memory, as the last polls found."""
        found = []
        for backend in self.backends.all:
            entry = backend.listing.running.get(key) if backend.listing else None
            if entry is not None and backend.is_up:
                found.append(
                    {
                        "backend": backend.name,
                        "size": _count(entry.get("size")),
                        "size_vram": _count(entry.get("size_vram")),
                        "context": _count(entry.get("context_length")),
                        "expires_at": _text(entry.get("expires_at")),
                    }
                )
        return found

    def _rules_for(self, name: ModelName) -> ModelDocument | None:
        """Return what the table for a model says, in the form of a settings file."""
        rules = next((one for one in self.rules if matches(one.match, name)), None)
        if rules is None or name.cloud:
            return None
        return {
            field.name: visible(value, field.type)
            for field in fields_of(type(rules))
            if (value := getattr(rules, field.name)) is not None
        }


def _by_model(aliases: Aliases) -> dict[str, list[Alias]]:
    """Return the aliases that each model answers to, by the model's key."""
    found: dict[str, list[Alias]] = {}
    for alias in aliases.all:
        for model in alias.models:
            found.setdefault(model.key, []).append(alias)
    return found


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= MAX_INT64 else None


def _text(value: object) -> str | None:
    return value[:_LONGEST] if isinstance(value, str) else None
