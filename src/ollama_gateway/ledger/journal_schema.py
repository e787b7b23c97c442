"""The tables of a journal, by version.

1. Records and open requests. 2. The facts of each record (`facts.py`). 3. `changes`: the numbers of
the records that are no requests but changes by operators; these have no facts.
"""

from __future__ import annotations

from typing import Final

from ollama_gateway.ledger.facts import CREATE_FACTS

SCHEMA_VERSION: Final = 3
CREATE_CHANGES: Final = "CREATE TABLE IF NOT EXISTS changes (seq INTEGER PRIMARY KEY)"
# One that an edited file has already must not stop the writer.
ADD_CHANGE: Final = "INSERT OR REPLACE INTO changes VALUES (?)"
SCHEMA: Final = (
    "CREATE TABLE intents (request_id TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE rows (
        seq INTEGER PRIMARY KEY, request_id TEXT NOT NULL UNIQUE,
        document TEXT NOT NULL, hash BLOB NOT NULL)""",
    "CREATE TABLE chain (identity TEXT NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL)",
    CREATE_FACTS,
    CREATE_CHANGES,
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
