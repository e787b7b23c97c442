"""Ownership of journals: the process that holds `journal-<n>.lock` owns `journal-<n>.db`.

A process takes the lowest number that no process owns. Living processes look after the journals of
ended ones: they end the requests left open there, and move their records to PostgreSQL if there is
one. Everything here blocks and raises JournalError.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from ollama_gateway.ledger.chain import Checkpoint, verify
from ollama_gateway.ledger.document import Document
from ollama_gateway.ledger.journal import Journal, JournalError, links_of, reading, translated
from ollama_gateway.ledger.journal_migration import SCHEMA_VERSION
from ollama_gateway.ledger.retention import last_past, log_dropped
from ollama_gateway.storage.file_lock import locked, opened
from ollama_gateway.storage.private_file import make_directory
from ollama_gateway.storage.sqlite import version_of

JOURNAL_PATTERN: Final = "journal-*.db"
COMMANDS_JOURNAL: Final = "journal-commands.db"
"""The journal of changes that commands make on the stores of this machine; no gateway owns it for
longer than to look after it."""
PATIENCE: Final = 10.0
"""Seconds that a command waits for another one, or for a gateway, to give that journal up."""


@contextmanager
def own_journal(directory: Path, *, is_strict: bool, key: bytes) -> Iterator[Journal]:
    """Own the unowned journal of the lowest number for the length of the block; blocking.

    Raises JournalError.
    """
    with translated(directory):
        make_directory(directory)
    for number in itertools.count():
        path = directory / f"journal-{number}.db"
        with _owned(path) as is_ours:
            if is_ours:
                with closing(Journal(path, is_strict=is_strict, key=key)) as journal:
                    yield journal
                return


@contextmanager
def own_commands_journal(directory: Path, *, key: bytes) -> Iterator[Journal]:
    """Own the commands' journal of a directory for the length of the block; blocking.

    Raises JournalError: also if its last record was written with another key, as from here on the
    chain would not hold.
    """
    path = directory / COMMANDS_JOURNAL
    with translated(directory):
        make_directory(directory)
    with _owned(path, PATIENCE) as is_ours:
        if not is_ours:
            raise JournalError(f"{path}: another command or a gateway holds it, try again")
        with translated(path):
            os.close(opened(path))  # so that root leaves it to the directory's owner
        with closing(Journal(path, is_strict=True, key=key)) as journal:
            _check_key(journal, key)
            yield journal


@contextmanager
def unowned_journal(path: Path, *, key: bytes) -> Iterator[Journal | None]:
    """Own a journal for the length of the block, or yield None if a process owns it; blocking.

    Requests left open in it are ended. Raises JournalError.
    """
    with _owned(path) as is_ours:
        if not is_ours:
            yield None
            return
        with closing(Journal(path, is_strict=True, key=key)) as journal:
            yield journal


def recover(
    directory: Path,
    before: float | None = None,
    *,
    key: bytes,
    note: Callable[[Document], None] = lambda _: None,
) -> list[str]:
    """End the requests that killed processes left open in unowned journals; blocking.

    Brings journals of an older schema forward. Drops records that began before a moment (seconds
    since 1970), if one is given. Calls `note` with each record it makes. Returns a line for each
    journal that failed.
    """
    faults = []
    for path in sorted(directory.glob(JOURNAL_PATTERN)):
        try:
            if is_unowned(path) and (_is_unfinished(path) or _is_past(path, before)):
                with unowned_journal(path, key=key) as journal:
                    for record in journal.killed if journal else ():
                        note(record)
                    if journal is not None and before is not None:
                        _trim(journal, before)
        except JournalError as error:
            faults.append(str(error))
    return faults


def has_intents(path: Path) -> bool:
    """Return whether requests are open in a journal. Raises JournalError."""
    with reading(path) as connection:
        return connection.execute("SELECT 1 FROM intents").fetchone() is not None


def _is_unfinished(path: Path) -> bool:
    """Return whether requests are open in a journal, or it has an older schema."""
    with reading(path) as connection:
        is_older = 0 < version_of(connection) < SCHEMA_VERSION
    return is_older or has_intents(path)


def has_past(directory: Path, before: float) -> bool:
    """Return whether any journal has records that began before a moment; blocking."""
    for path in directory.glob(JOURNAL_PATTERN):
        with suppress(JournalError):
            if _is_past(path, before):
                return True
    return False


def _is_past(path: Path, before: float | None) -> bool:
    """Return whether a journal has records to trim."""
    if before is None:
        return False
    with reading(path) as connection:
        return last_past(links_of(connection), before, 1, time.time()) is not None


def _trim(journal: Journal, before: float) -> None:
    first = journal.checkpoint.seq + 1
    if dropped := sum(iter(lambda: journal.trim(before), 0)):
        log_dropped(journal.path.name, dropped, (first, journal.checkpoint.seq), before)


def is_unowned(path: Path) -> bool:
    """Return whether no process owns a journal now. Raises JournalError."""
    with _owned(path) as is_ours:
        return is_ours


def _check_key(journal: Journal, key: bytes) -> None:
    with reading(journal.path) as connection:
        links = list(links_of(connection, journal.head.seq - 2))
    before = [Checkpoint(one.seq, one.hash) for one in links[:-1]] or [journal.checkpoint]
    if links and verify(before[-1], links[-1:], key)[1] is not None:
        line = "its last record does not hold: is audit.chain_key here the gateway's?"
        raise JournalError(f"{journal.path}: {line}")


@contextmanager
def _owned(path: Path, patience: float = 0.0) -> Iterator[bool]:
    with ExitStack() as lock:
        with translated(path):
            is_ours = lock.enter_context(locked(path.with_suffix(".lock"), patience=patience))
        yield is_ours
