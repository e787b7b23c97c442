"""Print keys: as rows of a table, as lines, as JSON; a key's text only where it was just made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ollama_gateway.cli.keys.limits import limits_in_words
from ollama_gateway.cli.keys.port import KeyPair
from ollama_gateway.cli.output import print_json, print_table, say
from ollama_gateway.cli.table import Column, Row
from ollama_gateway.control.keys import KeyDocument

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
CHANGE_COLUMNS: Final = (
    Column("id"),
    Column("name"),
    Column("field"),
    Column("before", is_prose=True),
    Column("after", is_prose=True),
)
"""The columns of a preview."""


def print_secret(key: KeyDocument, *, as_json: bool) -> None:
    """Print a key that was just made, with its text."""
    if not as_json:
        say(key["key"])
        say(f"This is key {key['id']} ({key['name']}). It is not shown again.", err=True)
        return
    order = ("id", "key", "name", "models", "endpoints", "limits", "user_header", "aliases")
    print_json({field: key[field] for field in (*order, "expires_at")})


def print_key(key: KeyDocument, *, as_json: bool) -> None:
    """Print a key without its text."""
    if as_json:
        print_json(key)
        return
    for field in key:
        label = "end user" if field == "user_header" else field
        say(f"{label + ':':<12}{_in_words(field, key, ', ')}")


def row_of(key: KeyDocument) -> Row:
    """Return the cells of a key."""
    fields = ("id", "name", "status", "models", "endpoints", "created_at", "expires_at", "limits")
    return tuple(_in_words(field, key, ",") for field in fields)


def print_changes(pairs: Sequence[KeyPair], *, wide: bool) -> None:
    """Print what a change does to each key."""
    rows = [
        (pair["before"]["id"], pair["before"]["name"], field, *cells)
        for pair in pairs
        for field in pair["after"]
        if field != "status" and pair["before"][field] != pair["after"][field]
        for cells in [tuple(_in_words(field, pair[side], ",") for side in ("before", "after"))]
    ]
    print_table(CHANGE_COLUMNS, rows, wide=wide)


def _in_words(field: str, key: KeyDocument, between: str) -> str:
    value = key[field]
    if field == "limits":
        return limits_in_words(value)
    if field == "aliases":
        value = [f"{name}={','.join(models)}" for name, models in value.items()]
    return str((between.join(value) if isinstance(value, list) else value) or "-")
