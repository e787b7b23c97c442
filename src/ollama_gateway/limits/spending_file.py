"""A file of what was spent: SQLite, written by the process that owns it, read by others.

In the file of a process that has ended, the requests that are open will never be settled, so they
count as `charges.py` has it; its next owner charges them for good, before it lives for others.
Who owns a file, and whether it lives, is `ownership.py`'s.

The rules: every error leaves here as a `SpendingError` of one line, and so does a file that was
moved or replaced under an open connection. A row is believed only within the bounds of what this
program writes.
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

import attrs

from ollama_gateway.limits.calendar import first_day_kept
from ollama_gateway.limits.charges import (
    MAKE,
    Charge,
    Open,
    follow,
    forget_before,
    forget_open,
    keep,
    number_in,
    read,
    text_in,
)
from ollama_gateway.limits.ownership import alive, looked_at, owned
from ollama_gateway.limits.quota import MAX_TOKENS, clamp_tokens
from ollama_gateway.storage.private_file import identity, make_directory, make_private

BUSY_SECONDS: Final = 1.0
"""How long SQLite waits for a lock that something else holds on a file."""
HANGING_SECONDS: Final = 5.0
"""How long one thread waits for another that is at the file."""
LAST_DAY: Final = 2_932_896
"""9999-12-31, the last day that has a month."""
DROPPED_AT_ONCE: Final = 1000
"""Rows of one transaction."""
SCHEMA_VERSION: Final = 1
SCHEMA: Final = (
    "CREATE TABLE spent (key_id TEXT, day INTEGER, tokens INTEGER, PRIMARY KEY (key_id, day))",
    "CREATE TABLE open (request_id TEXT PRIMARY KEY, key_id TEXT, day INTEGER, prompt INTEGER)",
    "CREATE TABLE identity (id TEXT)",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)

KeyDay = tuple[str, int]
"""A key's id, and a day: days since 1970-01-01, UTC."""


class SpendingError(Exception):
    """What was spent cannot be read or written; one line for the operator."""


@attrs.frozen
class Content:
    """What a file holds."""

    identity: str
    """Made once with the file."""
    spent: Mapping[KeyDay, int]
    open: Mapping[str, Open]
    is_alive: bool = True
    """Whether the file's process lives, so that what is open may still end as it likes."""
    charges: Mapping[str, Charge] = {}
    """Of requests that were killed, and of those that are open what was told."""

    def charged(self) -> Content:
        """The same once nothing is open any more: all as they were told, or at their bound."""
        spent, charges = dict(self.spent), dict(self.charges)
        for id_, request in self.open.items():
            charge(spent, request, sum(charges.setdefault(id_, (request.prompt, 0))))
        return Content(self.identity, spent, {}, is_alive=False, charges=charges)


def charge(spent: dict[KeyDay, int], request: Open, tokens: int) -> None:
    """Add what a request used to what its key spent on its day."""
    at = request.key_id, request.day
    spent[at] = clamp_tokens(spent.get(at, 0) + clamp_tokens(tokens))


class SpendingFile:
    """The file that this process owns until `close`; blocking, and one thread at a time is let in.

    It is `budgets-<n>.db` of the lowest n that nobody owns; directory and file are made. What a
    killed process left open in it is charged, and what can be forgotten (`month`: which it is, in
    months since year 0) is dropped, in one transaction. `content` is what it holds then.

    Raises:
        SpendingError: the file or its directory cannot be made, read or written, the file is
            something else, or it is of a newer version.

    """

    def __init__(self, directory: Path, month: int) -> None:
        self._open: dict[str, Open] | None = None  # those in the file; None where that is unsure
        self._in_use = threading.Lock()  # a thread that was left to itself may still be at it
        self._number = 0  # of the last write
        with _translated(directory):
            make_directory(directory)
        for number in itertools.count():
            self.path = directory / f"budgets-{number}.db"
            if self._is_taken(month):
                return

    def __repr__(self) -> str:
        return f"<SpendingFile {self.path}>"

    def write(
        self, spent: Mapping[KeyDay, int], opened: Mapping[str, Open], number: int | None = None
    ) -> None:
        """Replace these rows of what is spent, and all of what is open.

        Raises SpendingError, then nothing was changed; it may be repeated with newer figures. One
        that was overtaken by a write of a higher number changes nothing: its thread was late.
        """
        with self._alone():
            if identity(self.path) != self._identity:
                raise SpendingError(f"{self.path} was replaced while in use: restart the gateway")
            number = self._number + 1 if number is None else number
            if number <= self._number:
                return
            with self._transaction():
                self._put(spent, opened)
            self._open, self._number = dict(opened), number

    def forget(self, before: int) -> bool:
        """Drop some of what is older; whether there may be more. Raises SpendingError."""
        with self._alone(), self._transaction():
            dropped = self._connection.execute(
                "DELETE FROM spent WHERE rowid IN (SELECT rowid FROM spent WHERE day < ? LIMIT ?)",
                (before, DROPPED_AT_ONCE),
            ).rowcount
        return dropped == DROPPED_AT_ONCE

    def close(self) -> None:
        """Close the file, then give it up; nothing where a thread hangs in it, or it is closed."""
        if self._in_use.acquire(blocking=False):
            try:
                self._undo.close()
            finally:
                self._in_use.release()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One thread at a time; raises SpendingError where another one does not come back."""
        if not self._in_use.acquire(timeout=HANGING_SECONDS):
            raise SpendingError(f"{self.path}: the file system does not answer")
        try:
            with _translated(self.path):
                yield
        finally:
            self._in_use.release()

    def _is_taken(self, month: int) -> bool:
        """Whether the file at `path` is ours now; others may own it, or not stop reading it."""
        with _translated(self.path), ExitStack() as undo:
            if not undo.enter_context(owned(self.path)):
                return False
            self._identity = make_private(self.path)
            self._connection = undo.enter_context(closing(_connect(str(self.path))))
            self.content = self._prepare(month)
            if not undo.enter_context(alive(self.path)):
                return False
            self._undo = undo.pop_all()
        return True

    def _prepare(self, month: int) -> Content:
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        with self._transaction():
            if _version(self._connection) == 0:
                self._make_tables()
            self._connection.execute(MAKE)
            found = _read(self._connection, self.path)
            charges, charged = found.charged().charges, found.charged().spent
            first = first_day_kept({day for _, day in charged}, month)
            kept = {at: tokens for at, tokens in charged.items() if at[1] >= first}
            self._connection.executemany(
                "DELETE FROM spent WHERE key_id = ? AND day = ?", charged.keys() - kept.keys()
            )
            self._put({at: n for at, n in kept.items() if n != found.spent.get(at)}, {})
            keep(self._connection, found.open, charges)
            forget_before(self._connection, min((day for _, day in kept), default=0))
        return Content(found.identity, kept, {})

    def _make_tables(self) -> None:
        for statement in SCHEMA:
            self._connection.execute(statement)
        self._connection.execute("INSERT INTO identity VALUES (?)", (str(uuid.uuid4()),))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        with self._connection:  # commits, or rolls back
            yield

    def _put(self, spent: Mapping[KeyDay, int], opened: Mapping[str, Open]) -> None:
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
        follow(self._connection, before, opened)
        run(
            "INSERT OR REPLACE INTO spent (key_id, day, tokens) VALUES (?, ?, ?)",
            [(*at, tokens) for at, tokens in spent.items()],
        )


def read_file(path: Path) -> Content | None:
    """What the file holds at one moment, without changing it; None where it is just being made.

    Where its owner lives no more, what was left open is charged. Raises SpendingError.
    """
    with _translated(path), looked_at(path) as is_alive:
        identity(path)  # SQLite would wait for ever for somebody to write to a pipe
        target = f"{path.absolute().as_uri()}?mode=ro"
        with closing(_connect(target, is_uri=True)) as connection:
            connection.execute("BEGIN")
            content = _read(connection, path) if _version(connection) else None
    return content if content is None or is_alive else content.charged()


def _connect(target: str, *, is_uri: bool = False) -> sqlite3.Connection:
    # A runner's calls come one at a time, and not always from the same thread.
    connection = sqlite3.connect(
        target, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=is_uri
    )
    connection.text_factory = bytes.decode  # of what is not UTF-8, SQLite's error shows the text
    return connection


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _read(connection: sqlite3.Connection, path: Path) -> Content:
    """Everything, within a transaction."""
    if (version := _version(connection)) > SCHEMA_VERSION:
        raise SpendingError(
            f"{path} was written by a newer version (schema {version}, this one knows"
            f" {SCHEMA_VERSION}): upgrade this program"
        )
    [(made_with,)] = connection.execute("SELECT id FROM identity")
    spent = connection.execute("SELECT key_id, day, tokens FROM spent")
    opened = connection.execute("SELECT request_id, key_id, day, prompt FROM open")
    return Content(
        str(uuid.UUID(text_in(made_with))),
        {
            (text_in(key), number_in(day, LAST_DAY)): number_in(n, MAX_TOKENS)
            for key, day, n in spent
        },
        {
            text_in(id_): Open(
                text_in(key), number_in(day, LAST_DAY), number_in(prompt, MAX_TOKENS)
            )
            for id_, key, day, prompt in opened
        },
        charges=read(connection),
    )


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """The seam: what SQLite and the file system raise becomes a `SpendingError` of one line."""
    try:
        yield
    except FileNotFoundError as error:
        raise SpendingError(f"{path} is gone: put it back, or restart the gateway") from error
    except OSError as error:
        where, what = error.filename or path, error.strerror or "cannot be used"
        raise SpendingError(f"{where}: {what}") from error
    except sqlite3.Error as error:
        # The message may hold names from the file.
        what = str(error) if str(error).isprintable() else "cannot be read"
        raise SpendingError(f"{path}: {what}") from error
    except ValueError as error:
        raise SpendingError(f"{path}: a row is not as this program writes it") from error
