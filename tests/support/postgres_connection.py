"""One connection to PostgreSQL, as the tests use it."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Final

import pytest

from ollama_gateway.storage.database import DatabaseError, Timeouts
from ollama_gateway.storage.postgres import Database

SHORT: Final = Timeouts(statement=0.3, lock=0.2, idle=0.3)
UNHURRIED: Final = Timeouts(statement=600, lock=600, idle=600)
SECRET: Final = "hush-0123456789"
"""A password, or what a statement holds: it is to be in no message."""


def ask(database: Database, sql: str = "SELECT 1") -> object:
    """Run one statement in a transaction; return the first column of the first row."""
    with database.transaction() as cursor:
        cursor.execute(sql.encode())
        row = cursor.fetchone() if cursor.description else None
    return row[0] if row else None


def failure(use: Callable[[], object]) -> DatabaseError:
    """Return the error that a use raises: one line, without the library's error as a cause."""
    with pytest.raises(DatabaseError) as caught:
        use()
    error = caught.value
    assert str(error).isprintable()
    assert (error.__cause__, error.__context__) == (None, None)
    assert "psycopg.errors" not in "".join(traceback.format_exception(error))
    return error
