"""A journal: the SQLite file into which one process writes its trail, and which others read.

`journal-<n>.db` in the data directory is owned by the process that holds `journal-<n>.lock`, so
that no two write one file. An *intent* is written when a request is admitted, and becomes a
finished row when it ends; finished rows are chained (`chain.py`) and never changed. Intents that a
killed process left are made `killed` rows by the next owner, before anything else.

The rules: a transaction is whole or has not happened, and what was in doubt may be written again; a
request has one row, the first that was committed. Every error leaves here as a `JournalError` of
one line, and so does a file that was moved or replaced under an open connection.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

import attrs

from ollama_gateway.ledger.chain import GENESIS, Checkpoint, Link, link
from ollama_gateway.ledger.document import Document, killed, to_text
from ollama_gateway.ledger.retention import TURN, last_past
from ollama_gateway.limits.spending import charged_in
from ollama_gateway.storage.private_file import identity, make_private

BUSY_SECONDS: Final = 1.0
"""How long SQLite waits for a lock that something else holds on a file."""
HANGING_SECONDS: Final = 5.0
"""How long one thread waits for another that is in the journal."""
LARGEST: Final = 8 * 2**30
"""Bytes of a journal: some eight million rows."""
SCHEMA_VERSION: Final = 1
SCHEMA: Final = (
    "CREATE TABLE intents (request_id TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE rows (
        seq INTEGER PRIMARY KEY, request_id TEXT NOT NULL UNIQUE,
        document TEXT NOT NULL, hash BLOB NOT NULL)""",
    "CREATE TABLE chain (identity TEXT NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL)",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_ADD_INTENT: Final = """INSERT OR IGNORE INTO intents
    SELECT ?1, ?2 WHERE NOT EXISTS (SELECT 1 FROM rows WHERE request_id = ?1)"""
_ADD_ROW: Final = "INSERT INTO rows VALUES (?, ?, ?, ?) ON CONFLICT (request_id) DO NOTHING"
_LINKS: Final = """SELECT seq, CAST(request_id AS TEXT), CAST(document AS TEXT), CAST(hash AS BLOB)
    FROM rows ORDER BY seq"""


class JournalError(Exception):
    """The journal cannot be read or written; one line for the operator."""


@attrs.frozen
class Entry:
    """What is to be written of one request."""

    request_id: str
    document: str
    is_final: bool
    """Whether it has ended; else it is an intent."""


class Journal:
    """A journal that this process owns until `close`; blocking, and one thread at a time is let in.

    Args:
        path: of the file; its lock is held by the caller.
        is_strict: whether a commit is on the disk when it returns (synchronous = FULL).
        key: of the chain.
        largest: bytes of the file; then it takes no more, as if the disk were full.

    Raises:
        JournalError: it cannot be made, read or written, is something else, or is newer.

    """

    def __init__(self, path: Path, *, is_strict: bool, key: bytes, largest: int = LARGEST) -> None:
        self.path = path
        self.identity = ""
        """Which journal it is, for good, wherever its rows go."""
        self.head = Checkpoint()
        """The last row that is there."""
        self.checkpoint = Checkpoint()
        """The row before the first that is there."""
        self.killed: list[Document] = []
        """Rows that were made of what its last owner left open."""
        self._key = key
        self._in_use = threading.Lock()  # a thread that was left to itself may still be at it
        self._intents: set[str] = set()
        """Requests that have an intent there, or may have one."""
        with translated(path), ExitStack() as undo:
            self._identity = make_private(path)
            self._connection = undo.enter_context(closing(_connect(str(path))))
            self._prepare(largest, is_strict=is_strict)
            undo.pop_all()

    def __repr__(self) -> str:
        return f"<Journal {self.path}, {self.head.seq} rows>"

    def commit(self, entries: Sequence[Entry]) -> None:
        """Write them, all or none; what is there already is left as it is. Raises JournalError."""
        with self._alone():
            if identity(self.path) != self._identity:
                raise JournalError(f"{self.path} was replaced while in use: restart the gateway")
            head = self.head
            with _transaction(self._connection):
                for entry in entries:
                    head = self._put(head, entry)
            self.head = head
            self._intents.difference_update([e.request_id for e in entries if e.is_final])

    def drop(self, last: Link) -> int:
        """Drop a row and all before it; how many. It stays as the anchor; raises JournalError.

        Nothing happens where it is gone already: an anchor never goes back.
        """
        with self._alone():
            return self._drop(last)

    def trim(self, before: float, now: float | None = None) -> int:
        """Drop the oldest rows, those that began before a moment, a thousand at most; how many.

        The last of them stays as the anchor from which the chain goes on. Both moments are seconds
        since 1970; `now` is the wall clock's if it is not given. Raises JournalError.
        """
        now = time.time() if now is None else now
        with self._alone():
            last = last_past(links_of(self._connection), before, TURN, now)
            return self._drop(last) if last else 0

    @property
    def is_in_use(self) -> bool:
        """Whether a thread is in it, which may hang there."""
        return self._in_use.locked()

    def close(self) -> None:
        """Close the file. Raises JournalError where a thread hangs in it."""
        with self._alone():
            self._connection.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One thread at a time; raises JournalError where another one does not come back."""
        if not self._in_use.acquire(timeout=HANGING_SECONDS):
            raise JournalError(f"{self.path}: the file system does not answer")
        try:
            with translated(self.path):
                yield
        finally:
            self._in_use.release()

    def _drop(self, last: Link) -> int:
        with _transaction(self._connection):
            run = self._connection.execute
            update = "UPDATE chain SET seq = ?, hash = ? WHERE seq < ?"
            if not run(update, (last.seq, last.hash, last.seq)).rowcount:
                return 0
            dropped = run("DELETE FROM rows WHERE seq <= ?", (last.seq,)).rowcount
        self.checkpoint = Checkpoint(last.seq, last.hash)
        return dropped

    def _put(self, head: Checkpoint, entry: Entry) -> Checkpoint:
        # Each statement lets go of the interpreter, and takes it from the event loop again.
        run = self._connection.execute
        if not entry.is_final:
            run(_ADD_INTENT, (entry.request_id, entry.document))
            self._intents.add(entry.request_id)
            return head
        if entry.request_id in self._intents:
            run("DELETE FROM intents WHERE request_id = ?", (entry.request_id,))
        seq = head.seq + 1
        digest = link(head.hash, seq, entry.request_id, entry.document, self._key)
        record = (seq, entry.request_id, entry.document, digest)
        return Checkpoint(seq, digest) if run(_ADD_ROW, record).rowcount else head

    def _prepare(self, largest: int, *, is_strict: bool) -> None:
        run = self._connection.execute
        [(mode,)] = run("PRAGMA journal_mode = WAL")
        if mode != "wal":
            raise JournalError(f"{self.path}: the file system cannot hold a journal (no WAL)")
        run(f"PRAGMA synchronous = {'FULL' if is_strict else 'NORMAL'}")
        [(page_size,)] = run("PRAGMA page_size")
        run(f"PRAGMA max_page_count = {largest // page_size}")
        with _transaction(self._connection):
            if _version(self._connection, self.path) == 0:
                for statement in SCHEMA:
                    run(statement)
                run("INSERT INTO chain VALUES (?, 0, ?)", (str(uuid.uuid4()), GENESIS))
            [(self.identity,)] = run("SELECT identity FROM chain")
            self.checkpoint = checkpoint_of(self._connection)
            self.head = _head(self._connection)
        self._end_intents()

    def _end_intents(self) -> None:
        """What was open when the last owner ended was killed with it."""
        left = self._connection.execute("SELECT request_id, document FROM intents").fetchall()
        self._intents = {request_id for request_id, _ in left}
        charges = charged_in(self.path.parent) if left else {}
        for start in range(0, len(left), TURN):
            head = self.head
            records = [
                (request_id, killed(json.loads(document), charges.get(request_id)))
                for request_id, document in left[start : start + TURN]
            ]
            with _transaction(self._connection):
                for request_id, record in records:
                    head = self._put(head, Entry(request_id, to_text(record), is_final=True))
            self.head = head
            self.killed += [record for _, record in records]
        self._intents.clear()


def first_rows(path: Path, count: int) -> list[Link]:
    """The oldest rows of a journal. Raises JournalError."""
    with reading(path) as connection:
        return list(islice(links_of(connection), count))


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A journal at one moment, without changing it. Raises JournalError."""
    with translated(path):
        identity(path)  # SQLite would wait for ever for somebody to write to a pipe
        target = f"{path.absolute().as_uri()}?mode=ro"
        with closing(_connect(target, is_uri=True)) as connection:
            connection.execute("BEGIN")
            _version(connection, path)
            yield connection


def checkpoint_of(connection: sqlite3.Connection) -> Checkpoint:
    """What came before the first row that is there."""
    [(seq, digest)] = connection.execute("SELECT seq, hash FROM chain")
    return Checkpoint(seq, digest)


def links_of(connection: sqlite3.Connection) -> Iterator[Link]:
    """The finished rows, in the order of the chain, whatever somebody has put there."""
    for record in connection.execute(_LINKS):
        yield Link(*record)


def _head(connection: sqlite3.Connection) -> Checkpoint:
    last = connection.execute("SELECT seq, hash FROM rows ORDER BY seq DESC LIMIT 1").fetchone()
    return Checkpoint(*last) if last else checkpoint_of(connection)


def _connect(target: str, *, is_uri: bool = False) -> sqlite3.Connection:
    # A runner's calls come one at a time, and not always from the same thread.
    connection = sqlite3.connect(
        target, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=is_uri
    )
    # What is not UTF-8 is no error, whose text would show it: `audit verify` names the row.
    connection.text_factory = partial(bytes.decode, errors="replace")
    return connection


def _version(connection: sqlite3.Connection, path: Path) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        raise JournalError(
            f"{path} was written by a newer version (schema {version}, this one knows"
            f" {SCHEMA_VERSION}): upgrade this program"
        )
    return version


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    with connection:  # commits, or rolls back
        yield


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """The seam: what SQLite and the file system raise becomes a `JournalError` of one line."""
    try:
        yield
    except FileNotFoundError as error:
        raise JournalError(f"{path} is gone: put it back, or restart the gateway") from error
    except OSError as error:
        where, what = error.filename or path, error.strerror or "cannot be used"
        raise JournalError(f"{where}: {what}") from error
    except sqlite3.Error as error:
        # The message may hold names from the file.
        what = str(error) if str(error).isprintable() else "cannot be read"
        raise JournalError(f"{path}: {what}") from error
    except (ValueError, TypeError) as error:
        raise JournalError(f"{path}: a row is not as this program writes it") from error
