"""What is known of a database before one is used: what a transaction may take, and how it fails.

Apart from `storage/postgres.py`, which brings psycopg: that takes 12 MiB, and is imported only
where there is a database.
"""

from __future__ import annotations

import attrs


class DatabaseError(Exception):
    """PostgreSQL could not be used; one line for the operator.

    Args:
        message: the line.
        is_away: whether it may pass by itself, as an outage does.
        code: the SQLSTATE, where the server gave one.

    """

    def __init__(self, message: str, *, is_away: bool = False, code: str = "") -> None:
        super().__init__(message)
        self.is_away = is_away
        self.code = code

    @property
    def is_lock_conflict(self) -> bool:
        """Whether somebody else held a lock, so that it is worth another try soon."""
        return self.code in {"55P03", "40P01"}

    @property
    def is_bad_data(self) -> bool:
        """Whether it is about what was to be stored, and nothing else is in question."""
        return self.code[:2] in {"22", "23"}

    @property
    def is_duplicate(self) -> bool:
        """Whether what was to be made is there: somebody else made it at the same moment."""
        return self.code in {"23505", "42P07"}


@attrs.frozen
class Timeouts:
    """What a transaction may take, in seconds."""

    statement: float = 2.0
    """One statement."""
    lock: float = 1.0
    """Waiting for one lock of somebody else's."""
    idle: float = 5.0
    """Between two statements."""

    def begin(self) -> bytes:
        """The statements that open a transaction under these limits."""
        limits = {
            "statement_timeout": self.statement,
            "lock_timeout": self.lock,
            "idle_in_transaction_session_timeout": self.idle,
        }
        settings = (f"; SET LOCAL {name} = {round(s * 1000)}" for name, s in limits.items())
        return "".join(["BEGIN", *settings]).encode()
