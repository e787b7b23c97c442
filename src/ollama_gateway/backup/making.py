"""Make a backup while gateways run: copy each file as of one moment, into one archive.

The order of the files is `KINDS`, with its reasons there. A gateway writes the tokens of a request
within 100 ms after its record, so the usage journals of living gateways are copied a second after
the journals.

The rule: the archive appears under its name when it is complete and on the disk, or not at all.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final

from ollama_gateway.backends.pausing import PauseFile
from ollama_gateway.backup.archive import ArchiveWriter, Manifest, Member, Progress
from ollama_gateway.backup.kinds import KINDS, USAGE, BackupError, Kind
from ollama_gateway.limits.usage_locks import inspected
from ollama_gateway.storage.data_files import DATA_FILES
from ollama_gateway.storage.file_lock import opened

SETTLING_SECONDS: Final = 1.0
"""Ten times what a gateway takes from a record to its tokens on the disk."""


def wait_for_tokens() -> None:
    """Wait until living gateways have written the tokens of records that were written before."""
    time.sleep(SETTLING_SECONDS)


def back_up(
    directory: Path,
    target: Path,
    *,
    keys_in: str,
    is_forced: bool,
    progress: Progress,
    settle: Callable[[], None] = wait_for_tokens,
) -> Manifest:
    """Back up the files of a data directory into the file `target`, readable by its owner alone.

    Args:
        directory: of the gateways; nothing in it changes.
        target: the archive; its directory must have room for twice the largest file besides it.
        keys_in: where the gateway's keys are, for the manifest.
        is_forced: whether an existing file is replaced.
        progress: called while files are copied.
        settle: called between the journals and the usage journals if a gateway lives.

    Raises:
        BackupError: there is nothing to back up, or `target` cannot be used.
        JournalError, SpendingError, StoreError, PausesBroken: a file cannot be read, or is damaged.
        OSError: the archive cannot be written.

    """
    _refuse_target(directory, target, is_forced=is_forced)
    began_at = _now()
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as name:
        copies, new = Path(name), Path(name) / "archive"
        with os.fdopen(opened(new, os.O_WRONLY | os.O_EXCL), "wb") as file:
            archive = ArchiveWriter(file)
            members: list[Member] = []
            for kind in KINDS:
                paths = sorted(directory.glob(kind.pattern))
                if kind is USAGE and any(map(_is_alive, paths)):
                    settle()
                members += _copies(kind, paths, copies, archive, progress)
            if not members:
                raise BackupError(f"{directory}: holds nothing to back up")
            manifest = Manifest(
                version("ollama-gateway"), began_at, _now(), keys_in, tuple(members)
            )
            archive.finish(manifest)
            file.flush()
            os.fsync(file.fileno())
        _refuse_target(directory, target, is_forced=is_forced)
        new.replace(target)
    sync_directory(target.parent)
    return manifest


def sync_directory(path: Path) -> None:
    """Put the names in a directory on the disk; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_target(directory: Path, target: Path, *, is_forced: bool) -> None:
    if target.resolve().parent == directory.resolve() and any(map(target.match, DATA_FILES)):
        raise BackupError(f"{target}: is the name of one of the gateway's own files")
    if target.is_dir() or not target.parent.is_dir():
        raise BackupError(f"{target}: must be the name of a file in an existing directory")
    if target.exists() and not is_forced:
        raise BackupError(f"{target}: exists: give another name, or --force to replace it")


def _copies(
    kind: Kind, paths: list[Path], copies: Path, archive: ArchiveWriter, progress: Progress
) -> list[Member]:
    """Copy the files of one kind into the archive, one at a time."""
    members: list[Member] = []
    for path in paths:
        if not kind.has(path.name):
            raise BackupError(f"{path}: is not as the gateway names its files: rename or move it")
        copy, copied_at = copies / path.name, _now()
        schema = _copy(kind, path, copy, progress)
        if schema or kind.format is None:  # else its gateway is just making it
            members.append(archive.add(copy, schema, copied_at, progress))
        copy.unlink()
    return members


def _copy(kind: Kind, path: Path, copy: Path, progress: Progress) -> int:
    """Copy a file; return the version of its tables, 0 if it has none."""
    if kind.format is None:
        copy.write_text(json.dumps(sorted(PauseFile(path.parent).read())))
        return 0
    return kind.format.copy(path, copy, partial(progress, path.name))


def _is_alive(path: Path) -> bool:
    """Whether the gateway of a usage journal lives."""
    with inspected(path) as is_alive:
        return is_alive


def _now() -> datetime:
    return datetime.now(UTC)
