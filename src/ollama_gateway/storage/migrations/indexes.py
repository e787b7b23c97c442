"""Indexes of large tables that writers use meanwhile: built concurrently, outside transactions.

PostgreSQL builds no index concurrently on a partitioned table. So the index is made on the parent
alone, then on each partition, and the parts are attached; the whole is valid when the last is.
Partitions that are made later have it from the start. A part that was interrupted is invalid; the
next run drops and builds it anew. Only one program may do this at a time (`alone`). Everything
blocks and raises DatabaseError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs

from ollama_gateway.storage.migrations import patiently

if TYPE_CHECKING:
    from ollama_gateway.storage.postgres import Cursor, Database


@attrs.frozen
class OnlineIndex:
    """An index of a partitioned table."""

    name: str
    table: str
    suffix: str
    """Behind the name of a partition, the name of its part."""
    columns: str


KEY_PREFIX: Final = 40
"""Characters in an index: a text may be as long as an edited file makes it, an entry may not."""
INDEXES: Final = tuple(
    OnlineIndex(
        f"gateway_audit_by_{name}",
        "gateway_audit",
        f"by_{name}",
        f"(left({name}, {KEY_PREFIX})), journal, seq",
    )
    for name in ("key_id", "key_name")
)

_LIMIT: Final = b"SET LOCAL lock_timeout = '300ms'; SET LOCAL statement_timeout = '400ms'"
"""Others wait behind a statement that waits for a lock."""
_LACKING: Final = b"""SELECT relation.oid::regclass::text, relname,
        quote_ident(relname || %(suffix)s)
    FROM pg_inherits JOIN pg_class AS relation ON relation.oid = inhrelid
    WHERE inhparent = to_regclass(%(table)s) AND NOT EXISTS (
        SELECT FROM pg_index JOIN pg_inherits AS part ON part.inhrelid = indexrelid
        WHERE indrelid = relation.oid AND part.inhparent = to_regclass(%(index)s))
    ORDER BY relname"""
_STATE: Final = b"SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)"

Progress = Callable[[str], None]


def build_indexes(
    database: Database,
    progress: Progress = lambda _: None,
    indexes: Sequence[OnlineIndex] = INDEXES,
) -> list[str]:
    """Build the indexes that the database lacks; return the names of those that were not whole.

    Args:
        database: of a role that owns the tables.
        progress: takes a line for each part.
        indexes: all that there should be.

    """
    return [index.name for index in indexes if _build(database, progress, index)]


def _build(database: Database, progress: Progress, index: OnlineIndex) -> bool:
    is_new = patiently(partial(_make_parent, database, index))
    parts = _lacking(database, index)
    for partition, name, part in parts:
        progress(f"{index.name}: building the index of {name}")
        _build_part(database, index, partition, part)
        patiently(partial(_attach, database, index, part))
    if is_new or parts:
        # PostgreSQL gathers none of a partitioned table, nor of an expression, by itself.
        progress(f"{index.table}: gathering statistics")
        database.run_outside(f"ANALYZE {index.table}".encode())
    return bool(is_new or parts)


def _make_parent(database: Database, index: OnlineIndex) -> bool:
    with database.transaction() as cursor:
        if _state(cursor, index.name) is not None:
            return False
        cursor.execute(_LIMIT)
        cursor.execute(
            f"CREATE INDEX {index.name} ON ONLY {index.table} ({index.columns})".encode()
        )
        return True


def _lacking(database: Database, index: OnlineIndex) -> list[tuple[str, str, str]]:
    """Return the partitions without their part: the name to use, the one to show, the part's."""
    names = {"table": index.table, "index": index.name, "suffix": f"_{index.suffix}"}
    with database.transaction() as cursor:
        return cursor.execute(_LACKING, names).fetchall()


def _build_part(database: Database, index: OnlineIndex, partition: str, part: str) -> None:
    with database.transaction() as cursor:
        is_valid = _state(cursor, part)
    if is_valid:
        return
    if is_valid is not None:
        database.run_outside(f"DROP INDEX CONCURRENTLY {part}".encode())
    database.run_outside(
        f"CREATE INDEX CONCURRENTLY {part} ON {partition} ({index.columns})".encode()
    )


def _attach(database: Database, index: OnlineIndex, part: str) -> None:
    with database.transaction() as cursor:
        cursor.execute(_LIMIT)
        cursor.execute(f"ALTER INDEX {index.name} ATTACH PARTITION {part}".encode())


def _state(cursor: Cursor, name: str) -> bool | None:
    """Return whether an index is valid; None if there is none of that name."""
    found = cursor.execute(_STATE, (name,)).fetchone()
    return bool(found[0]) if found else None
