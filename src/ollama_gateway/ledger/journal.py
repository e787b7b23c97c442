"""A journal: the SQLite file to which one process writes its audit records, and which others read.

The process that holds `journal-<n>.lock` owns `journal-<n>.db`, so no two processes write one file.
Admitting a request writes an *intent*, and its end turns the intent into a finished record.
Finished records are chained (`chain.py`) and never change; beside each stand the facts that are
filtered and summed (`facts.py`). The next owner first turns the intents
that a killed process left into `killed` records. A change by an operator is written in the same
way, as an intent before it is made (`document.py`).

The rules: a transaction happens as a whole or not at all, and one in doubt may be repeated; a
request has one record, the first committed. Every error leaves here as a `JournalError` of one
line, and so does a file that was moved or replaced while open.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

import attrs

from ollama_gateway.ledger.chain import GENESIS, Checkpoint, Link, link
from ollama_gateway.ledger.document import ADD_CHANGE, Document, ended_by_kill, is_change, to_text
from ollama_gateway.ledger.facts import ADD_FACTS, FactsRow, facts_of, facts_of_own
from ollama_gateway.ledger.journal_migration import SCHEMA, SCHEMA_VERSION, migrate
from ollama_gateway.ledger.retention import TURN, last_past
from ollama_gateway.limits.contributions import read_charges
from ollama_gateway.storage.sqlite import Connection, FileFormat, SQLiteFile, version_of

MAX_JOURNAL_BYTES: Final = 8 * 2**30
"""The most bytes of a journal: some eight million records."""
_ADD_INTENT: Final = """INSERT OR IGNORE INTO intents
    SELECT :id, :document WHERE NOT EXISTS (SELECT 1 FROM rows WHERE request_id = :id)"""
_ADD_ROW: Final = "INSERT INTO rows VALUES (?, ?, ?, ?) ON CONFLICT (request_id) DO NOTHING"
_LINKS: Final = """SELECT seq, CAST(request_id AS TEXT), CAST(document AS TEXT), CAST(hash AS BLOB)
    FROM rows WHERE seq > ? ORDER BY seq"""


class JournalError(Exception):
    """The journal cannot be read or written; one line for the operator."""


# Text that is not UTF-8 must not raise: `audit verify` reports its record.
JOURNAL_FORMAT: Final = FileFormat(
    SCHEMA_VERSION,
    JournalError,
    bad_row=(ValueError, TypeError),
    decode=partial(bytes.decode, errors="replace"),
)
translated: Final = JOURNAL_FORMAT.translated
reading: Final = JOURNAL_FORMAT.reading


@attrs.frozen
class JournalEntry:
    """The intent or finished record of a request or of a change, to be written."""

    request_id: str
    """Of a change, its own id."""
    document: Document
    is_final: bool
    """Whether the record is finished; otherwise it is an intent."""


class Journal:
    """A journal that this process owns until `close`; blocking, admits one thread at a time.

    Args:
        path: the file, whose lock the caller holds.
        is_strict: whether records written at the start are on the disk at once.
        key: of the chain.
        max_bytes: size at which the file rejects writes, as if the disk were full.

    Raises:
        JournalError: the file cannot be created, read or written, is no journal, or is newer.

    """

    def __init__(
        self, path: Path, *, is_strict: bool, key: bytes, max_bytes: int = MAX_JOURNAL_BYTES
    ) -> None:
        self.path = path
        self.identity = ""
        """The id of the journal, for good, wherever its records go."""
        self.head = Checkpoint()
        """The last record in the file."""
        self.checkpoint = Checkpoint()
        """The record before the first one in the file."""
        self.killed: list[Document] = []
        """Records made of the intents of requests that its last owner left."""
        self._key = key
        self._is_durable: bool | None = None
        """Whether a commit waits for the disk; None before that was said."""
        self._intents: set[str] = set()
        """Requests that have an intent in the file, or may have one."""
        with translated(path), ExitStack() as undo:
            self._file = undo.enter_context(closing(SQLiteFile(path, JOURNAL_FORMAT)))
            self._connection = self._file.connection
            self._file.prepare(lambda: self._configure(is_strict=is_strict))
            migrate(self._file)
            self._limit(max_bytes)
            self._load()
            undo.pop_all()

    def __repr__(self) -> str:
        return f"<Journal {self.path}, {self.head.seq} records>"

    def commit(self, entries: Sequence[JournalEntry], *, is_durable: bool = True) -> None:
        """Write entries, all or none; existing records stay. Raises JournalError.

        If `is_durable`, they are on the disk when this returns.
        """
        with self._file.alone():
            self._file.check_identity()
            self._sync(is_durable=is_durable)
            head, facts = self.head, list[FactsRow]()
            with self._file.transaction():
                for entry in entries:
                    head = self._put(head, entry, facts)
                self._connection.executemany(ADD_FACTS, facts)
            self.head = head
            self._intents.difference_update([e.request_id for e in entries if e.is_final])

    def drop(self, last: Link) -> int:
        """Drop a record and all before it; return how many. Raises JournalError.

        The record stays as the checkpoint, which never goes back.
        """
        with self._file.alone():
            return self._drop(last)

    def trim(self, before: float, now: float | None = None) -> int:
        """Drop the oldest records, begun before a moment, a thousand at most; return how many.

        The last of them stays as the checkpoint from which the chain goes on. Both moments are
        seconds since 1970; `now` defaults to the wall clock. Raises JournalError.
        """
        now = time.time() if now is None else now
        with self._file.alone():
            last = last_past(links_of(self._connection), before, TURN, now)
            return self._drop(last) if last else 0

    @property
    def is_in_use(self) -> bool:
        """Whether a thread is in the journal; it may hang there."""
        return self._file.in_use.locked()

    def close(self) -> None:
        """Close the file. Raises JournalError if a thread hangs in it."""
        with self._file.alone():
            self._file.close()

    def _drop(self, last: Link) -> int:
        with self._file.transaction():
            run = self._connection.execute
            update = "UPDATE chain SET seq = ?, hash = ? WHERE seq < ?"
            if not run(update, (last.seq, last.hash, last.seq)).rowcount:
                return 0
            dropped = run("DELETE FROM rows WHERE seq <= ?", (last.seq,)).rowcount
            run("DELETE FROM facts WHERE seq <= ?", (last.seq,))
            run("DELETE FROM changes WHERE seq <= ?", (last.seq,))
        self.checkpoint = Checkpoint(last.seq, last.hash)
        return dropped

    def _put(
        self, head: Checkpoint, entry: JournalEntry, facts: list[FactsRow], *, is_own: bool = True
    ) -> Checkpoint:
        """Write an entry, and add its row to `facts`, which are written together."""
        # Each statement releases the interpreter and then takes it from the event loop.
        run = self._connection.execute
        if not entry.is_final:
            run(_ADD_INTENT, {"id": entry.request_id, "document": to_text(entry.document)})
            self._intents.add(entry.request_id)
            return head
        if entry.request_id in self._intents:
            run("DELETE FROM intents WHERE request_id = ?", (entry.request_id,))
        seq, text = head.seq + 1, to_text(entry.document)
        digest = link(head.hash, seq, entry.request_id, text, self._key)
        if not run(_ADD_ROW, (seq, entry.request_id, text, digest)).rowcount:
            return head
        document = entry.document
        if is_change(document):
            run(ADD_CHANGE, (seq,))
        else:
            facts.append(facts_of_own(seq, document, text) if is_own else facts_of(seq, document))
        return Checkpoint(seq, digest)

    def _configure(self, *, is_strict: bool) -> None:
        run = self._connection.execute
        [(mode,)] = run("PRAGMA journal_mode")
        if mode != "wal":
            raise JournalError(f"{self.path}: the file system cannot hold a journal (no WAL)")
        self._sync(is_durable=is_strict)

    def _limit(self, max_bytes: int) -> None:
        [(page_size,)] = self._connection.execute("PRAGMA page_size")
        self._connection.execute(f"PRAGMA max_page_count = {max_bytes // page_size}")

    def _sync(self, *, is_durable: bool) -> None:
        """Say whether a commit waits for the disk."""
        if is_durable is not self._is_durable:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if is_durable else 'NORMAL'}")
            self._is_durable = is_durable

    def _load(self) -> None:
        run = self._connection.execute
        with self._file.transaction():
            if self._file.version() == 0:
                for statement in SCHEMA:
                    run(statement)
                run("INSERT INTO chain VALUES (?, 0, ?)", (str(uuid.uuid4()), GENESIS))
            [(self.identity,)] = run("SELECT identity FROM chain")
            self.checkpoint = checkpoint_of(self._connection)
            self.head = _head(self._connection)
        self._end_intents()

    def _end_intents(self) -> None:
        """Turn the intents that the last owner left into records."""
        left = self._connection.execute("SELECT request_id, document FROM intents").fetchall()
        self._intents = {request_id for request_id, _ in left}
        charges = read_charges(self.path.parent) if left else {}
        for start in range(0, len(left), TURN):
            head, facts = self.head, list[FactsRow]()
            records = [
                (request_id, ended_by_kill(json.loads(document), charges.get(request_id)))
                for request_id, document in left[start : start + TURN]
            ]
            with self._file.transaction():
                for request_id, record in records:
                    entry = JournalEntry(request_id, record, is_final=True)
                    head = self._put(head, entry, facts, is_own=False)
                self._connection.executemany(ADD_FACTS, facts)
            self.head = head
            self.killed += [record for _, record in records if not is_change(record)]
        self._intents.clear()


def first_records(path: Path, count: int) -> list[Link]:
    """Return the oldest records of a journal. Raises JournalError."""
    with reading(path) as connection:
        return list(islice(links_of(connection), count))


@attrs.frozen
class JournalHead:
    """How far a journal goes."""

    identity: str
    """"" for a journal that is just being made."""
    seq: int
    """Of its last record; 0 if it never had one."""


def head_of(path: Path) -> JournalHead:
    """Return how far a journal goes, without changing it. Raises JournalError."""
    with reading(path) as connection:
        if version_of(connection) == 0:
            return JournalHead("", 0)
        [(identity,)] = connection.execute("SELECT identity FROM chain")
        return JournalHead(str(identity), int(_head(connection).seq))


def count_after(path: Path, seq: int) -> int:
    """Count the records of a journal after one of them. Raises JournalError."""
    with reading(path) as connection:
        [(count,)] = connection.execute("SELECT count(*) FROM rows WHERE seq > ?", (seq,))
        return int(count)


def checkpoint_of(connection: Connection) -> Checkpoint:
    """Return the record before the first one in the file."""
    [(seq, digest)] = connection.execute("SELECT seq, hash FROM chain")
    return Checkpoint(seq, digest)


def links_of(connection: Connection, after: int = -(2**63)) -> Iterator[Link]:
    """Yield the finished records after a seq in the order of the chain, unchecked."""
    for record in connection.execute(_LINKS, (after,)):
        yield Link(*record)


def _head(connection: Connection) -> Checkpoint:
    last = connection.execute("SELECT seq, hash FROM rows ORDER BY seq DESC LIMIT 1").fetchone()
    return Checkpoint(*last) if last else checkpoint_of(connection)
