"""Print keys: as rows of a table, as lines, as JSON; a key's text only where it was just made."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import attrs

from ollama_gateway.cli.keys.limits import limits_in_words
from ollama_gateway.cli.output import print_json, say
from ollama_gateway.cli.table import Column, Row
from ollama_gateway.keys.key import ENDPOINT_GROUPS, APIKey, utc_now
from ollama_gateway.models.aliases import models_of

COLUMNS: Final = (
    Column("id"),
    Column("name"),
    Column("status", 1),
    Column("models", 2, is_prose=True),
    Column("endpoints", 5, is_prose=True),
    Column("created", 6),
    Column("expires", 4),
    Column("limits", 3, is_prose=True),
)
"""The columns of `keys list`."""


def as_json_of(key: APIKey) -> dict[str, Any]:
    """Return a key for programs."""
    return {
        "id": key.id,
        "name": key.name,
        "status": key.status(utc_now()),
        "models": list(key.models),
        "endpoints": _groups(key),
        "limits": attrs.asdict(key.limits),
        "user_header": key.user_header,
        "aliases": models_of(key.aliases),
        "created_at": _time(key.created_at),
        "expires_at": _time(key.expires_at),
        "revoked_at": _time(key.revoked_at),
    }


def print_secret(key: APIKey, text: str, *, as_json: bool) -> None:
    """Print a key that was just made, with its text."""
    if not as_json:
        say(text)
        say(f"This is key {key.id} ({key.name}). It is not shown again.", err=True)
        return
    shown = as_json_of(key)
    order = ("name", "models", "endpoints", "limits", "user_header", "aliases", "expires_at")
    print_json({"id": key.id, "key": text, **{field: shown[field] for field in order}})


def print_key(key: APIKey, *, as_json: bool) -> None:
    """Print a key without its text."""
    if as_json:
        print_json(as_json_of(key))
        return
    aliases = [f"{name}={','.join(models)}" for name, models in models_of(key.aliases).items()]
    fields = {**as_json_of(key), "limits": limits_in_words(key.limits), "aliases": aliases}
    for field, value in fields.items():
        label = "end user" if field == "user_header" else field
        listed = (", ".join(value) or None) if isinstance(value, list) else value
        say(f"{label + ':':<12}{listed if listed is not None else '-'}")


def row_of(key: APIKey) -> Row:
    """Return the cells of a key."""
    status = key.status(utc_now())
    models, groups = ",".join(key.models), ",".join(_groups(key))
    times = [_time(when) or "-" for when in (key.created_at, key.expires_at)]
    return (key.id, key.name, status, models, groups, *times, limits_in_words(key.limits))


def _groups(key: APIKey) -> list[str]:
    return [group for group in ENDPOINT_GROUPS if group in key.endpoints]


def _time(when: datetime | None) -> str | None:
    return when.isoformat(timespec="seconds").replace("+00:00", "Z") if when else None
