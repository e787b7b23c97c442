"""The archive of a backup: a plain tar file, whose last member says what the others must be.

Only files with names of our own are written and read, each with one header of 512 bytes, so an
archive of any origin can lead nowhere else, links to nothing, and unpacks to no more bytes than it
has. `tarfile` reads headers here, but not whole archives: it would take a name or an attribute of
any length into memory, and knows links and devices.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import IO, Any, BinaryIO, Final

import attrs
import cattrs

from ollama_gateway.backup.kinds import BackupError, kind_of
from ollama_gateway.storage.file_lock import opened

FORMAT: Final = 1
"""The version of the archive's layout; an archive of a later one is refused."""
MANIFEST: Final = "manifest.json"
MAX_MANIFEST_BYTES: Final = 2**20
BLOCK: Final = 512
"""Bytes of a header; members are padded to a multiple of it."""
PIECE: Final = 2**20
"""Bytes copied at once."""

Progress = Callable[[str, int, int], None]
"""Takes the name of a file, how much of it is done, and how much there is."""


@attrs.frozen
class Member:
    """One file of a backup."""

    name: str
    size: int
    """Bytes."""
    sha256: str
    schema: int
    """The version of its tables; 0 if it has none."""
    copied_at: datetime
    """When its copy began: it shows the file as of that moment."""


@attrs.frozen
class Manifest:
    """What a backup holds."""

    version: str
    """Of the program that made it."""
    began_at: datetime
    ended_at: datetime
    keys_in: str
    """Where the gateway's keys are: `sqlite`, in this backup, or `postgresql`."""
    files: tuple[Member, ...]
    format: int = FORMAT

    def named(self) -> dict[str, Member]:
        """Return the files by their names."""
        return {member.name: member for member in self.files}

    def as_json(self) -> dict[str, Any]:
        """Return the manifest as JSON has it."""
        found: dict[str, Any] = _converter.unstructure(self)
        return found


class ArchiveWriter:
    """Writes an archive into an open file. Raises OSError."""

    def __init__(self, file: BinaryIO) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT)  # noqa: SIM115

    def add(self, source: Path, schema: int, copied_at: datetime, progress: Progress) -> Member:
        """Add a file under its own name; return its entry in the manifest."""
        with source.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            hashed = _HashedReader(file, lambda done: progress(source.name, done, size))
            self._put(source.name, size, copied_at, hashed)
        return Member(source.name, size, hashed.digest.hexdigest(), schema, copied_at)

    def finish(self, manifest: Manifest) -> None:
        """Add the manifest, and end the archive."""
        text = json.dumps(manifest.as_json(), indent=1).encode()
        self._put(MANIFEST, len(text), manifest.ended_at, io.BytesIO(text))
        self._tar.close()

    def _put(self, name: str, size: int, moment: datetime, content: Any) -> None:
        header = tarfile.TarInfo(name)
        header.size, header.mode, header.mtime = size, 0o600, int(moment.timestamp())
        self._tar.addfile(header, content)


class _HashedReader:
    """A file that is hashed while it is read."""

    def __init__(self, file: IO[bytes], progress: Callable[[int], None]) -> None:
        self.digest = hashlib.sha256()
        self._file = file
        self._progress = progress

    def read(self, size: int) -> bytes:
        piece = self._file.read(size)
        self.digest.update(piece)
        self._progress(self._file.tell())
        return piece


def extract(archive: Path, directory: Path, progress: Progress) -> Manifest:
    """Extract an archive into an empty directory, check every file, and return the manifest.

    Raises:
        BackupError: it is no backup, is damaged, or a newer version made it.
        OSError: a file cannot be read or written.

    """
    found: dict[str, tuple[int, str]] = {}
    manifest: Manifest | None = None
    with _opened(archive) as file:
        end = os.fstat(file.fileno()).st_size
        while manifest is None and (header := _next_header(archive, file, end)):
            if header.name == MANIFEST:
                manifest = _read_manifest(archive, file, header.size)
            elif kind_of(header.name) is None or header.name in found:
                raise BackupError(f"{archive}: is no backup: it has a file that no backup has")
            else:
                digest = _extract_one(file, header, directory, progress)
                found[header.name] = header.size, digest
            file.seek(-header.size % BLOCK, os.SEEK_CUR)
    if manifest is None:
        raise BackupError(f"{archive}: is cut off, or is no backup: it has no {MANIFEST}")
    if found != {member.name: (member.size, member.sha256) for member in manifest.files}:
        raise BackupError(f"{archive}: is damaged: its files are not those that were backed up")
    return manifest


def _opened(archive: Path) -> BinaryIO:
    # O_NONBLOCK: opening a pipe without a writer would hang
    file = os.fdopen(os.open(archive, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise BackupError(f"{archive}: is not a file")
    return file


def _next_header(archive: Path, file: BinaryIO, end: int) -> tarfile.TarInfo | None:
    """Read the header of the next member; None at the end of the archive."""
    block = file.read(BLOCK)
    if not block.strip(b"\0"):
        return None
    try:
        header = tarfile.TarInfo.frombuf(block, "ascii", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        raise BackupError(f"{archive}: is damaged, or is no backup") from None
    if header.type != tarfile.REGTYPE:
        raise BackupError(f"{archive}: is no backup: it has something other than files")
    if not 0 <= header.size <= end - file.tell():
        raise BackupError(f"{archive}: is cut off")
    return header


def _extract_one(
    file: BinaryIO, header: tarfile.TarInfo, directory: Path, progress: Progress
) -> str:
    """Copy a member into the directory, onto the disk; return its hash."""
    digest, done = hashlib.sha256(), 0
    new = opened(directory / header.name, os.O_WRONLY | os.O_EXCL)
    with os.fdopen(new, "wb") as copied:
        while piece := file.read(min(PIECE, header.size - done)):
            copied.write(piece)
            digest.update(piece)
            done += len(piece)
            progress(header.name, done, header.size)
        copied.flush()
        os.fsync(copied.fileno())
    return digest.hexdigest()


def _read_manifest(archive: Path, file: BinaryIO, size: int) -> Manifest:
    if size > MAX_MANIFEST_BYTES:
        raise BackupError(f"{archive}: its {MANIFEST} is not one of a backup")
    try:
        found = json.loads(file.read(size))
        made_as, version = int(found["format"]), str(found["version"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BackupError(f"{archive}: its {MANIFEST} is not one of a backup") from None
    if made_as > FORMAT:
        raise BackupError(
            f"{archive}: was made by a newer version ({version[:50]!r}): upgrade this program"
        )
    try:
        return _converter.structure(found, Manifest)
    except Exception:  # noqa: BLE001 - cattrs raises groups of whatever a wrong value caused
        raise BackupError(f"{archive}: its {MANIFEST} is not one of a backup") from None


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_structure_hook(datetime, lambda text, _: datetime.fromisoformat(text))
    converter.register_unstructure_hook(datetime, datetime.isoformat)
    return converter


_converter: Final = _make_converter()
