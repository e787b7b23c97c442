"""What a document says a key should be, from documents whose types are checked already."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import attrs

from ollama_gateway.control.errors import Problem, WrongInput
from ollama_gateway.keys.key import APIKey, KeyLimits
from ollama_gateway.keys.store import Changes
from ollama_gateway.models.aliases import Aliases, WrongAlias, alias_of

NAMES: Final = ("name", "models", "endpoints", "limits", "user_header", "aliases", "expires_at")
"""The fields of a key that may be given."""


def changes_from(document: Mapping[str, Any], before: APIKey | None = None) -> Changes:
    """Return what a document changes of a key, or of a new one; absent fields stay as they are.

    A limit that is absent stays, and one that is null is the settings' default from then on.

    Raises:
        WrongInput: a time or an alias cannot be read.
        WrongValue: no key may have one of these values.

    """
    changes: Changes = {}
    if "name" in document:
        changes["name"] = document["name"]
    if "models" in document:
        changes["models"] = tuple(dict.fromkeys(document["models"]))
    if "endpoints" in document:
        changes["endpoints"] = frozenset(document["endpoints"])
    if "limits" in document:
        now = before.limits if before is not None else KeyLimits()
        changes["limits"] = attrs.evolve(now, **document["limits"])
    if "user_header" in document:
        header = document["user_header"]
        changes["user_header"] = header if header is None else header.lower()
    if "aliases" in document:
        changes["aliases"] = _aliases(document["aliases"])
    if "expires_at" in document:
        changes["expires_at"] = moment_of(document["expires_at"], "/expires_at")
    return changes


def moment_of(text: str | None, where: str) -> datetime | None:
    """Return the moment of a text (RFC 3339); raises WrongInput."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise WrongInput([Problem(where, "is not a time such as 2026-12-31T23:59:59Z")])
    return found


def _aliases(given: Mapping[str, list[str]]) -> Aliases:
    found, problems = [], []
    for name, models in given.items():
        try:
            found.append(alias_of(name, models))
        except WrongAlias as error:
            problems.append(Problem("/aliases", f"{name[:100]}: {error}"))
    if problems:
        raise WrongInput(problems)
    return Aliases(tuple(found))
