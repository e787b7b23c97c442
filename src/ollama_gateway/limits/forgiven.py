"""Usage that resets took off budgets, so that every rebuild takes it off again.

A reset sets the spent tokens of a day or a month back to zero, and the usage journal of the process
that did it notes how many these were. A rebuild sums up the usage of all journals and takes off
what all have forgiven: so the usage before a reset does not count, and what came after it does, in
whatever order journals are added. Requests that run at a reset are charged at their end, and
count.

The table was added later: the first reset makes it, and then the file has version 2, which older
versions of this program refuse, as they would count the usage again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, Protocol

from ollama_gateway.limits.calendar import month_of
from ollama_gateway.limits.charges import checked_number, checked_text
from ollama_gateway.limits.quota import MAX_TOKENS
from ollama_gateway.storage.sqlite import Connection, version_of

Period = tuple[Literal["day", "month"], int]
"""`("day", 20781)` or `("month", 24322)`."""
KeyPeriod = tuple[str, Period]
"""A key's id, and a period."""
Forgiven = Mapping[str, Mapping[Period, int]]
"""Tokens by the key's id and the period."""

VERSION: Final = 2
"""Of a usage file with this table."""
_CREATE: Final = """CREATE TABLE IF NOT EXISTS forgiven
    (key_id TEXT, day INTEGER, month INTEGER, tokens INTEGER, PRIMARY KEY (key_id, day, month))"""
_PUT: Final = "INSERT OR REPLACE INTO forgiven VALUES (?, ?, ?, ?)"
_NONE: Final = -1
"""Stands for the day of a month, and for the month of a day."""
_LAST: Final = 2_932_896
"""9999-12-31 as a day; no month is larger."""


class ForgivenUsage(Protocol):
    """Keeps the tokens that were forgiven: the usage journal of this process."""

    @property
    def identity(self) -> str:
        """The journal's id."""
        ...

    def forgiven_of(self, key_id: str) -> Mapping[Period, int]:
        """Return all that it has forgiven of a key."""
        ...

    def forgive(self, key_id: str, totals: Mapping[Period, int]) -> None:
        """Keep new totals; a smaller one than before changes nothing."""
        ...


def load_forgiven(connection: Connection) -> dict[KeyPeriod, int]:
    """Read the table; raises ValueError for a row that this program did not write."""
    if version_of(connection) < VERSION:
        return {}
    found = connection.execute("SELECT key_id, day, month, tokens FROM forgiven")
    return {
        (checked_text(key), _period(day, month)): checked_number(tokens, MAX_TOKENS)
        for key, day, month, tokens in found
    }


def put_forgiven(connection: Connection, forgiven: Mapping[KeyPeriod, int]) -> None:
    """Write rows of the table, which is made if missing."""
    if not forgiven:
        return
    connection.execute(_CREATE)
    connection.execute(f"PRAGMA user_version = {VERSION}")
    rows = (
        (key, *(number if name == kind else _NONE for name in ("day", "month")), tokens)
        for (key, (kind, number)), tokens in forgiven.items()
    )
    connection.executemany(_PUT, rows)


def forget_forgiven(connection: Connection, day: int) -> None:
    """Delete the rows of earlier days (since 1970-01-01, UTC), and of earlier months."""
    if version_of(connection) >= VERSION:
        connection.execute(
            "DELETE FROM forgiven WHERE day BETWEEN 0 AND ? OR month BETWEEN 0 AND ?",
            (day - 1, month_of(day) - 1),
        )


def by_key_and_period(forgiven: Mapping[KeyPeriod, int]) -> dict[str, dict[Period, int]]:
    """Return tokens by key and period."""
    found: dict[str, dict[Period, int]] = {}
    for (key_id, period), tokens in forgiven.items():
        found.setdefault(key_id, {})[period] = tokens
    return found


def since_month(forgiven: Mapping[Period, int], month: int) -> Iterable[tuple[Period, int]]:
    """Yield the tokens that were forgiven in a month and later."""
    for (kind, number), tokens in forgiven.items():
        if (month_of(number) if kind == "day" else number) >= month:
            yield (kind, number), tokens


def _period(day: object, month: object) -> Period:
    if day == _NONE:
        return "month", checked_number(month, _LAST)
    if month == _NONE:
        return "day", checked_number(day, _LAST)
    raise ValueError("no period")
