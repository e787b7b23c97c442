"""Migrations of the PostgreSQL schema: numbered SQL files, each leading to the next version.

A new version takes one more file `0002_name.sql` beside this module. The rules: a released file
never changes, and files only add, so gateways of the previous version keep working. Each file runs
in one transaction, which also records it in `gateway_migrations`. An advisory lock serialises
concurrent `gatewayctl db migrate`; the later ones find the work done.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from ollama_gateway.storage.database import DatabaseError, Timeouts

if TYPE_CHECKING:
    from ollama_gateway.storage.postgres import Cursor, Database

T = TypeVar("T")

MIGRATION_TIMEOUTS: Final = Timeouts(statement=600, lock=1, idle=60)
"""Limits of a migration: an index on a large table is slow, and a queued lock blocks all others."""
RETRY_SECONDS: Final = 30.0
"""Seconds for which a statement that meets a lock is retried."""
RETRY_PAUSE: Final = 0.5
"""Seconds between retries, in which others get the lock."""

_ALONE: Final = Timeouts(lock=1, idle=86_400)
_FILE: Final = re.compile(r"(\d{4})_([a-z_]+)\.sql")
_LOCK: Final = 0x6F_67_77_01
"""The advisory lock of migrations; `ogw` in ASCII and a number."""
_LOCK_ONLINE: Final = 0x6F_67_77_04
"""The advisory lock of the work beside the migrations that is done in many transactions."""
_TABLE: Final = b"""CREATE TABLE IF NOT EXISTS gateway_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)"""


@attrs.frozen
class Migration:
    """One step of the schema."""

    version: int
    name: str
    sql: str = attrs.field(repr=False)


def migrations() -> tuple[Migration, ...]:
    """Return all steps that this version of the program knows, in order."""
    files = (file for file in resources.files(__name__).iterdir() if file.name.endswith(".sql"))
    found: list[Migration] = []
    for file in sorted(files, key=lambda file: file.name):
        match = _FILE.fullmatch(file.name)
        if match is None or int(match[1]) != len(found) + 1:
            raise ValueError(f"{file.name} is not the next migration")
        found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    return tuple(found)


def migrate(database: Database, steps: Sequence[Migration] | None = None) -> tuple[Migration, ...]:
    """Apply the steps that the database lacks, and return them.

    Raises:
        DatabaseError: the database cannot be used or has a newer schema; the steps before the
            failed one stay applied.

    """
    known = migrations() if steps is None else steps
    return tuple(step for step in known if patiently(partial(_took, database, step, known)))


def patiently(work: Callable[[], T]) -> T:
    """Run `work`, retrying for 30 s while other clients hold locks it needs; blocking.

    Raises DatabaseError.
    """
    deadline = time.monotonic() + RETRY_SECONDS
    while True:
        try:
            return work()
        except DatabaseError as error:
            may_pass = error.is_lock_conflict or error.is_timeout
            if not may_pass or time.monotonic() > deadline:
                raise
        time.sleep(RETRY_PAUSE)


@contextmanager
def alone(url: str) -> Iterator[None]:
    """Let only one program at a time build indexes and count records; the next one waits for 30 s.

    Raises DatabaseError.
    """
    from ollama_gateway.storage.postgres import Database  # noqa: PLC0415

    database = Database(url, _ALONE)
    with ExitStack() as stack:
        stack.callback(database.close)
        patiently(partial(_lock, database, stack))
        yield


def check_schema(database: Database) -> None:
    """Check that the database has this version's schema.

    Raises:
        DatabaseError: the schema is older or newer, or the database cannot be used.

    """
    known = migrations()
    with database.transaction() as cursor:
        applied = _applied(cursor)
    _refuse_newer(applied, known)
    if missing := {step.version for step in known} - applied:
        raise DatabaseError(
            f"the database's schema is version {min(missing) - 1}, this program needs"
            f" {known[-1].version}: run `gatewayctl db migrate`"
        )


def _lock(database: Database, stack: ExitStack) -> None:
    """Hold the lock until the stack is left."""
    with ExitStack() as undo:
        cursor = undo.enter_context(database.transaction())
        # With a parameter it would keep its snapshot, and each concurrent index wait for that.
        cursor.execute(f"SELECT pg_advisory_xact_lock({_LOCK_ONLINE})".encode())
        stack.push(undo.pop_all())


def _took(database: Database, step: Migration, known: Sequence[Migration]) -> bool:
    with database.transaction() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        applied = _applied(cursor)
        _refuse_newer(applied, known)
        if step.version in applied:
            return False
        cursor.execute(_TABLE)
        cursor.execute(step.sql.encode())
        cursor.execute(
            "INSERT INTO gateway_migrations (version, name) VALUES (%s, %s)",
            (step.version, step.name),
        )
    return True


def _applied(cursor: Cursor) -> set[int]:
    found = cursor.execute("SELECT to_regclass('gateway_migrations')").fetchone()
    if found is None or found[0] is None:
        return set()
    return {version for (version,) in cursor.execute("SELECT version FROM gateway_migrations")}


def _refuse_newer(applied: set[int], known: Sequence[Migration]) -> None:
    newest = known[-1].version
    if max(applied, default=0) > newest:
        raise DatabaseError(
            f"the database was migrated by a newer version (schema {max(applied)}, this one knows"
            f" {newest}): upgrade this program"
        )
