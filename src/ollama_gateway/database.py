"""What is known of a database before one is used: what a transaction may take, and how it fails.

Apart from `postgres.py`, which brings psycopg: that takes 12 MiB, and is imported only where there
is a database.
"""

from __future__ import annotations

import attrs


class DatabaseError(Exception):
    """PostgreSQL could not be used; one line for the operator.

    Args:
        message: the line.
        is_away: whether it may pass by itself, as an outage does.

    """

    def __init__(self, message: str, *, is_away: bool = False) -> None:
        super().__init__(message)
        self.is_away = is_away


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
