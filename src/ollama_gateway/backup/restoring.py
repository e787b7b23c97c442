"""Restore a backup: into a directory beside the present files first, then all files in one step.

The locks of all journals are held from before the present files are read until after they are
replaced, so no gateway runs meanwhile, and one that starts takes files of its own. The present
files stay beside the new ones, in `before-restore-<time>`.

The rule: an error or Ctrl-C leaves the present files as they were. Only a kill in the moment of
replacing can leave a part of both; `INTERRUPTED` then keeps gateways and commands out until the
restore is repeated, and every file is still there.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs

from ollama_gateway.backends.pausing import PauseFile
from ollama_gateway.backup.archive import Manifest, Progress, extract
from ollama_gateway.backup.kinds import JOURNALS, PAUSES, USAGE, BackupError, kind_of
from ollama_gateway.backup.making import sync_directory
from ollama_gateway.storage.data_files import INTERRUPTED, data_files
from ollama_gateway.storage.file_lock import locked
from ollama_gateway.storage.private_file import make_directory

NEW: Final = "restore.new"
"""The directory of the extracted files; one left by a killed command is removed."""
SCRATCH: Final = "scratch"
"""A directory in it for copies that are not restored."""
KEPT: Final = "before-restore-%Y%m%dT%H%M%S.%fZ"
STOP_SIGNALS: Final = {signal.SIGINT, signal.SIGTERM}


@attrs.define
class Restore:
    """A backup that was extracted and checked, and whose files can replace the present ones."""

    manifest: Manifest
    directory: Path
    """The data directory."""
    new: Path
    """The directory of the backup's files."""
    scratch: Path
    """A directory for copies."""
    _locks: ExitStack
    _locked: set[Path]

    def leave_out(self, name: str) -> None:
        """Restore all but this file."""
        (self.new / name).unlink()

    def replace(self) -> Path:
        """Replace the present files; return the directory in which they are kept.

        Raises BackupError, OSError: nothing was changed.
        """
        shutil.rmtree(self.scratch)
        kept = self.directory / datetime.now(UTC).strftime(KEPT)
        with _signals_blocked(), ExitStack() as undo:
            kept.mkdir(mode=0o700)
            undo.callback(kept.rmdir)
            _give_to_owner(self.directory, kept)
            new = self.directory / INTERRUPTED
            if new.exists():  # an earlier restore was killed; what it had not moved yet is kept too
                _move(new, kept / INTERRUPTED, undo)
            _move(self.new, new, undo)
            _lock(self.directory, self._locks, self._locked)
            sync_directory(self.directory)
            for path in list(data_files(self.directory)):
                _move(path, kept / path.name, undo)
            for path in _restored(new):
                _move(path, self.directory / path.name, undo)
            sync_directory(kept)
            sync_directory(self.directory)
            undo.pop_all()
        shutil.rmtree(new)
        sync_directory(self.directory)
        return kept


@contextmanager
def open_restore(archive: Path, directory: Path, progress: Progress) -> Iterator[Restore]:
    """Extract and check a backup for the length of the block; no gateway may run.

    Raises:
        BackupError: a gateway uses the directory, or the archive is no backup, is damaged or newer.
        JournalError, SpendingError, StoreError, PausesBroken: a file of the backup is damaged, or a
            newer version made it.
        OSError: a file cannot be read or written.

    """
    with ExitStack() as stack:
        make_directory(directory)
        held: set[Path] = set()
        _lock(directory, stack, held)
        new = directory / NEW
        stack.callback(shutil.rmtree, new, ignore_errors=True)
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        _give_to_owner(directory, new)
        manifest = extract(archive, new, progress)
        _check(new)
        scratch = new / SCRATCH
        scratch.mkdir(mode=0o700)
        yield Restore(manifest, directory, new, scratch, stack, held)


def _lock(directory: Path, locks: ExitStack, held: set[Path]) -> None:
    """Hold the locks of all journals that are there, besides those held already."""
    paths = [path for kind in (JOURNALS, USAGE) for path in sorted(directory.glob(kind.pattern))]
    paths += [directory / "journal-0.db", directory / "budgets-0.db"]
    for path in paths:
        lock = path.with_suffix(".lock")
        if lock not in held:
            if not locks.enter_context(locked(lock)):
                raise BackupError(f"{directory} is in use ({lock.name} is held): stop the gateway")
            held.add(lock)


def _check(new: Path) -> None:
    """Check that each file is whole, and of no newer version."""
    for path in _restored(new):
        kind = kind_of(path.name)
        if kind is PAUSES:
            PauseFile(new).read()
        elif kind is not None and kind.format is not None:
            kind.format.check(path)


def _restored(new: Path) -> list[Path]:
    """Return the files to restore, and not what SQLite left beside them."""
    return sorted(path for path in new.iterdir() if kind_of(path.name) is not None)


def _move(path: Path, to: Path, undo: ExitStack) -> None:
    path.rename(to)
    undo.callback(to.rename, path)


def _give_to_owner(directory: Path, made: Path) -> None:
    """Let a directory made by root belong to the owner of the one around it."""
    owner = directory.stat()
    if os.geteuid() == 0 and made.stat().st_uid != owner.st_uid:
        os.chown(made, owner.st_uid, owner.st_gid)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the end of the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
