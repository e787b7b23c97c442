"""What is charged for requests that their process does not end itself: a table in a spending file.

While such a request is open, it is what the shared store was last told of it; where nothing was
told, its prompt's bound. The next owner of the file keeps what it has charged, for the audit row
that says so. The table was added later, and an older version of this program leaves it alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final

import attrs

from ollama_gateway.limits.quota import MAX_TOKENS

Charge = tuple[int, int]
"""Tokens of the prompt and of the answer."""


@attrs.frozen
class Open:
    """A request that was admitted and has not ended."""

    key_id: str
    day: int
    prompt: int
    """Tokens of the prompt, at most."""
    told: Charge | None = None
    """What a shared store was told last."""


MAKE: Final = """CREATE TABLE IF NOT EXISTS charges
    (request_id TEXT PRIMARY KEY, day INTEGER, prompt INTEGER, answer INTEGER, killed INTEGER)"""
_PUT: Final = "INSERT OR REPLACE INTO charges VALUES (?, ?, ?, ?, ?)"
_READ: Final = """SELECT request_id, prompt, answer FROM charges
    WHERE killed OR request_id IN (SELECT request_id FROM open)"""


def follow(
    connection: sqlite3.Connection, before: Mapping[str, Open], opened: Mapping[str, Open]
) -> None:
    """Write what was told of open requests since `before`, and forget what has ended."""
    gone = [(id_,) for id_, was in before.items() if was.told and id_ not in opened]
    connection.executemany("DELETE FROM charges WHERE request_id = ?", gone)
    told = (
        (id_, request.day, *request.told, 0)
        for id_, request in opened.items()
        if request.told and (id_ not in before or before[id_].told != request.told)
    )
    connection.executemany(_PUT, told)


def forget_open(connection: sqlite3.Connection) -> None:
    """Forget what was told of requests that are not known to be open."""
    connection.execute("DELETE FROM charges WHERE NOT killed")


def keep(
    connection: sqlite3.Connection, killed: Mapping[str, Open], charges: Mapping[str, Charge]
) -> None:
    """Keep what was charged for requests of a process that was killed."""
    rows = ((id_, request.day, *charges[id_], 1) for id_, request in killed.items())
    connection.executemany(_PUT, rows)


def forget_before(connection: sqlite3.Connection, day: int) -> None:
    """Forget what was charged on earlier days (since 1970-01-01, UTC)."""
    connection.execute("DELETE FROM charges WHERE day < ?", (day,))


def read(connection: sqlite3.Connection) -> dict[str, Charge]:
    """By the request's id; raises ValueError where this program did not write it."""
    tables = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'charges'"
    if connection.execute(tables).fetchone() is None:
        return {}
    found = connection.execute(_READ)
    return {
        text_in(id_): (number_in(prompt, MAX_TOKENS), number_in(answer, MAX_TOKENS))
        for id_, prompt, answer in found
    }


def text_in(value: object) -> str:
    """A text as it must be in a row; raises ValueError."""
    if isinstance(value, str):
        return value
    raise ValueError("no text")


def number_in(value: object, most: int) -> int:
    """A number as it must be in a row; raises ValueError."""
    if isinstance(value, int) and 0 <= value <= most:
        return value
    raise ValueError("no number within its bounds")
