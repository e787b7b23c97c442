"""Charges of requests that their process does not end itself: a table in a usage file.

The charge of an open request is the one last reported to the shared store, or else the bound of its
prompt. The next owner of the file keeps the charges it has made, for the audit records that show
them. The table was added later; older versions of this program ignore it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from ollama_gateway.limits.quota import MAX_TOKENS
from ollama_gateway.storage.sqlite import Connection

Charge = tuple[int, int]
"""Tokens of the prompt and of the answer."""


@attrs.frozen
class OpenRequest:
    """A request that was admitted and has not ended."""

    key_id: str
    day: int
    prompt: int
    """Tokens of the prompt, at most."""
    reported: Charge | None = None
    """The charge last reported to a shared store."""


CREATE_CHARGES: Final = """CREATE TABLE IF NOT EXISTS charges
    (request_id TEXT PRIMARY KEY, day INTEGER, prompt INTEGER, answer INTEGER, killed INTEGER)"""
_PUT: Final = "INSERT OR REPLACE INTO charges VALUES (?, ?, ?, ?, ?)"
_READ: Final = """SELECT request_id, prompt, answer FROM charges
    WHERE killed OR request_id IN (SELECT request_id FROM open)"""


def update_charges(
    connection: Connection,
    before: Mapping[str, OpenRequest],
    opened: Mapping[str, OpenRequest],
) -> None:
    """Write the charges reported since `before`, and delete those of ended requests."""
    gone = [(id_,) for id_, was in before.items() if was.reported and id_ not in opened]
    connection.executemany("DELETE FROM charges WHERE request_id = ?", gone)
    reported = (
        (id_, request.day, *request.reported, 0)
        for id_, request in opened.items()
        if request.reported and (id_ not in before or before[id_].reported != request.reported)
    )
    connection.executemany(_PUT, reported)


def forget_open(connection: Connection) -> None:
    """Delete the charges of open requests; those of killed ones stay."""
    connection.execute("DELETE FROM charges WHERE NOT killed")


def keep_killed(
    connection: Connection, killed: Mapping[str, OpenRequest], charges: Mapping[str, Charge]
) -> None:
    """Write the charges of a killed process's requests."""
    rows = ((id_, request.day, *charges[id_], 1) for id_, request in killed.items())
    connection.executemany(_PUT, rows)


def forget_before(connection: Connection, day: int) -> None:
    """Delete the charges of earlier days (since 1970-01-01, UTC)."""
    connection.execute("DELETE FROM charges WHERE day < ?", (day,))


def load_charges(connection: Connection) -> dict[str, Charge]:
    """Return the charges by request id; raises ValueError if another program wrote them."""
    tables = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'charges'"
    if connection.execute(tables).fetchone() is None:
        return {}
    found = connection.execute(_READ)
    return {
        checked_text(id_): (checked_number(prompt, MAX_TOKENS), checked_number(answer, MAX_TOKENS))
        for id_, prompt, answer in found
    }


def checked_text(value: object) -> str:
    """Return a text; raises ValueError for any other value."""
    if isinstance(value, str):
        return value
    raise ValueError("no text")


def checked_number(value: object, most: int) -> int:
    """Return a number from 0 to `most`; raises ValueError for any other value."""
    if isinstance(value, int) and 0 <= value <= most:
        return value
    raise ValueError("no number within its bounds")
