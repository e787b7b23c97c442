"""Errors and time limits of a database, without its driver.

`storage/postgres.py` imports psycopg, which takes 12 MiB, so only processes that have a database
import that module.
"""

from __future__ import annotations

import attrs


class DatabaseError(Exception):
    """PostgreSQL could not be used; one line for the operator.

    Args:
        message: the line.
        is_away: whether the failure may pass by itself, as an outage does.
        code: the SQLSTATE, if the server gave one.

    """

    def __init__(self, message: str, *, is_away: bool = False, code: str = "") -> None:
        super().__init__(message)
        self.is_away = is_away
        self.code = code

    @property
    def is_lock_conflict(self) -> bool:
        """Whether another transaction held a lock, so that a retry may succeed soon."""
        return self.code in {"55P03", "40P01"}

    @property
    def is_timeout(self) -> bool:
        """Whether a statement ran into its time limit, as one does that waits for many locks."""
        return self.code == "57014"

    @property
    def is_lacking(self) -> bool:
        """Whether a table, a column or the right to use one is not there."""
        return self.code in {"42P01", "42703", "42501"}

    @property
    def is_bad_data(self) -> bool:
        """Whether the stored values alone are at fault, not the database."""
        return self.code[:2] in {"22", "23"}

    @property
    def is_duplicate(self) -> bool:
        """Whether another client made the same row or table at the same moment."""
        return self.code in {"23505", "42P07"}


@attrs.frozen
class Timeouts:
    """Time limits of a transaction, in seconds."""

    statement: float = 2.0
    """One statement."""
    lock: float = 1.0
    """Waiting for one lock."""
    idle: float = 5.0
    """Between two statements."""

    def begin(self) -> bytes:
        """Return the statements that open a transaction under these limits."""
        limits = {
            "statement_timeout": self.statement,
            "lock_timeout": self.lock,
            "idle_in_transaction_session_timeout": self.idle,
        }
        settings = (f"; SET LOCAL {name} = {round(s * 1000)}" for name, s in limits.items())
        return "".join(["BEGIN", *settings]).encode()
