"""The file of a usage journal: SQLite, written by the process that owns it, read by others.

Open requests in the file of an ended process will never be settled, so they count by their charges
(`charges.py`); the next owner charges them for good before it counts as alive. `usage_locks.py`
shows which process owns a file and whether it lives.

The rules: every error leaves here as a `SpendingError` of one line, and so does a file that was
moved or replaced while open. A row is trusted only within the bounds of what this program writes.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import attrs

from ollama_gateway.limits.calendar import first_day_kept
from ollama_gateway.limits.charges import (
    CREATE_CHARGES,
    Charge,
    OpenRequest,
    checked_number,
    checked_text,
    forget_before,
    forget_open,
    keep_killed,
    load_charges,
    update_charges,
)
from ollama_gateway.limits.forgiven import VERSION as FORGIVEN_VERSION
from ollama_gateway.limits.forgiven import (
    KeyPeriod,
    forget_forgiven,
    load_forgiven,
    put_forgiven,
)
from ollama_gateway.limits.quota import MAX_TOKENS, clamp_tokens
from ollama_gateway.limits.usage_locks import alive, inspected, owned
from ollama_gateway.storage.private_file import make_directory
from ollama_gateway.storage.sqlite import Connection, FileFormat, SQLiteFile, version_of

LAST_DAY: Final = 2_932_896
"""9999-12-31, the last day that has a month."""
DROPPED_AT_ONCE: Final = 1000
"""Rows that one transaction drops."""
SCHEMA_VERSION: Final = 1
"""Of a new file; `forgiven.py` says when it has the next one."""
SCHEMA: Final = (
    "CREATE TABLE spent (key_id TEXT, day INTEGER, tokens INTEGER, PRIMARY KEY (key_id, day))",
    "CREATE TABLE open (request_id TEXT PRIMARY KEY, key_id TEXT, day INTEGER, prompt INTEGER)",
    "CREATE TABLE identity (id TEXT)",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)

KeyDay = tuple[str, int]
"""A key's id, and a day: days since 1970-01-01, UTC."""


class SpendingError(Exception):
    """A usage journal cannot be read or written; one line for the operator."""


USAGE_FORMAT: Final = FileFormat(FORGIVEN_VERSION, SpendingError)


@attrs.frozen
class Content:
    """The content of a file."""

    identity: str
    """Made once, with the file."""
    spent: Mapping[KeyDay, int]
    open: Mapping[str, OpenRequest]
    is_alive: bool = True
    """Whether the file's process lives, so that it may still end the open requests."""
    charges: Mapping[str, Charge] = {}
    """Of killed requests, and the reported ones of open requests."""
    forgiven: Mapping[KeyPeriod, int] = {}

    def charged(self) -> Content:
        """Return the content with all open requests charged as reported, or at their bound."""
        spent, charges = dict(self.spent), dict(self.charges)
        for id_, request in self.open.items():
            charge(spent, request, sum(charges.setdefault(id_, (request.prompt, 0))))
        return attrs.evolve(self, spent=spent, open={}, is_alive=False, charges=charges)


def charge(spent: dict[KeyDay, int], request: OpenRequest, tokens: int) -> None:
    """Add a request's usage to that of its key and day."""
    at = request.key_id, request.day
    spent[at] = clamp_tokens(spent.get(at, 0) + clamp_tokens(tokens))


class UsageFile:
    """The file that this process owns until `close`; blocking, admits one thread at a time.

    It is `budgets-<n>.db` of the lowest unowned n; directory and file are created if missing. One
    transaction charges the requests that a killed process left open and drops old days (`month`:
    the current one, in months since year 0). `content` is the result.

    Raises:
        SpendingError: the file or its directory cannot be created, read or written, the file is no
            usage journal, or it is of a newer version.

    """

    def __init__(self, directory: Path, month: int) -> None:
        self._open: dict[str, OpenRequest] | None = None  # those in the file; None if unknown
        self._number = 0  # of the last write
        with USAGE_FORMAT.translated(directory):
            make_directory(directory)
        for number in itertools.count():
            self.path = directory / f"budgets-{number}.db"
            if self._took(month):
                return

    def __repr__(self) -> str:
        return f"<UsageFile {self.path}>"

    def write(
        self,
        spent: Mapping[KeyDay, int],
        opened: Mapping[str, OpenRequest],
        number: int | None = None,
        forgiven: Mapping[KeyPeriod, int] = {},
    ) -> None:
        """Replace these rows of usage, these of forgiven usage, and all open requests.

        Raises SpendingError without a change; the caller may retry with newer figures. A write with
        a lower number than an earlier one changes nothing: its thread was late.
        """
        with self._file.alone():
            self._file.check_identity()
            number = self._number + 1 if number is None else number
            if number <= self._number:
                return
            with self._file.transaction():
                self._put(spent, opened)
                put_forgiven(self._connection, forgiven)
            self._open, self._number = dict(opened), number

    def forget(self, before: int) -> bool:
        """Drop some older days; return whether there may be more. Raises SpendingError."""
        with self._file.alone(), self._file.transaction():
            dropped = self._connection.execute(
                "DELETE FROM spent WHERE rowid IN (SELECT rowid FROM spent WHERE day < ? LIMIT ?)",
                (before, DROPPED_AT_ONCE),
            ).rowcount
        return dropped == DROPPED_AT_ONCE

    def close(self) -> None:
        """Close the file and give it up; do nothing if a thread hangs in it, or it is closed."""
        if self._file.in_use.acquire(blocking=False):
            try:
                self._undo.close()
            finally:
                self._file.in_use.release()

    def _took(self, month: int) -> bool:
        """Try to own the file at `path`; others may own it, or not stop reading it."""
        with USAGE_FORMAT.translated(self.path), ExitStack() as undo:
            if not undo.enter_context(owned(self.path)):
                return False
            self._file = undo.enter_context(closing(SQLiteFile(self.path, USAGE_FORMAT)))
            self._connection = self._file.connection
            self._file.prepare(lambda: None)
            self.content = self._prepare(month)
            if not undo.enter_context(alive(self.path)):
                return False
            self._undo = undo.pop_all()
        return True

    def _prepare(self, month: int) -> Content:
        self._connection.execute("PRAGMA synchronous = NORMAL")
        with self._file.transaction():
            if self._file.version() == 0:
                self._make_tables()
            self._connection.execute(CREATE_CHARGES)
            found = _read(self._connection)
            charges, charged = found.charged().charges, found.charged().spent
            first = first_day_kept({day for _, day in charged}, month)
            kept = {at: tokens for at, tokens in charged.items() if at[1] >= first}
            self._connection.executemany(
                "DELETE FROM spent WHERE key_id = ? AND day = ?", charged.keys() - kept.keys()
            )
            self._put({at: n for at, n in kept.items() if n != found.spent.get(at)}, {})
            keep_killed(self._connection, found.open, charges)
            forget_before(self._connection, min((day for _, day in kept), default=0))
            forget_forgiven(self._connection, first)
            forgiven = load_forgiven(self._connection)
        return Content(found.identity, kept, {}, forgiven=forgiven)

    def _make_tables(self) -> None:
        for statement in SCHEMA:
            self._connection.execute(statement)
        self._connection.execute("INSERT INTO identity VALUES (?)", (str(uuid.uuid4()),))

    def _put(self, spent: Mapping[KeyDay, int], opened: Mapping[str, OpenRequest]) -> None:
        before, self._open = self._open, None
        if before is None:
            self._connection.execute("DELETE FROM open")
            forget_open(self._connection)
            before = {}
        run, came = self._connection.executemany, opened.keys() - before.keys()
        ended = [(id_,) for id_ in before.keys() - opened.keys()]
        run("DELETE FROM open WHERE request_id = ?", ended)
        run(
            "INSERT OR REPLACE INTO open (request_id, key_id, day, prompt) VALUES (?, ?, ?, ?)",
            [(id_, *attrs.astuple(opened[id_])[:3]) for id_ in came],
        )
        update_charges(self._connection, before, opened)
        run(
            "INSERT OR REPLACE INTO spent (key_id, day, tokens) VALUES (?, ?, ?)",
            [(*at, tokens) for at, tokens in spent.items()],
        )


def read_file(path: Path) -> Content | None:
    """Read a file as of one moment, without changing it; None if it is just being made.

    If its owner has ended, the open requests are charged. Raises SpendingError.
    """
    with (
        USAGE_FORMAT.translated(path),
        inspected(path) as is_alive,
        USAGE_FORMAT.reading(path) as connection,
    ):
        content = _read(connection) if version_of(connection) else None
    return content if content is None or is_alive else content.charged()


def _read(connection: Connection) -> Content:
    """Read everything within a transaction."""
    [(made_with,)] = connection.execute("SELECT id FROM identity")
    spent = connection.execute("SELECT key_id, day, tokens FROM spent")
    opened = connection.execute("SELECT request_id, key_id, day, prompt FROM open")
    return Content(
        str(uuid.UUID(checked_text(made_with))),
        {
            (checked_text(key), checked_number(day, LAST_DAY)): checked_number(n, MAX_TOKENS)
            for key, day, n in spent
        },
        {
            checked_text(id_): OpenRequest(
                checked_text(key), checked_number(day, LAST_DAY), checked_number(prompt, MAX_TOKENS)
            )
            for id_, key, day, prompt in opened
        },
        charges=load_charges(connection),
        forgiven=load_forgiven(connection),
    )
