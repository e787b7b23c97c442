"""Archives that no backup has made, or that were damaged since."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollama_gateway.backup.archive import FORMAT, MANIFEST, extract
from ollama_gateway.backup.kinds import BackupError
from tests.backup.data import backed_up, filled, names_in, nothing, opened

SOME = b"x" * 700
FOREIGN = {
    "climbs": ("../journal-0.db", tarfile.REGTYPE),
    "is absolute": ("/tmp/journal-0.db", tarfile.REGTYPE),  # noqa: S108 - never written
    "climbs within": ("journal-/../../x.db", tarfile.REGTYPE),
    "is a lock": ("journal-0.lock", tarfile.REGTYPE),
    "is no file of ours": ("gateway.toml", tarfile.REGTYPE),
    "ends a line": ("journal-0\n.db", tarfile.REGTYPE),
    "is a symbolic link": ("keys.db", tarfile.SYMTYPE),
    "is a link": ("keys.db", tarfile.LNKTYPE),
    "is a device": ("keys.db", tarfile.CHRTYPE),
    "is a pipe": ("keys.db", tarfile.FIFOTYPE),
    "is a directory": ("keys.db", tarfile.DIRTYPE),
    "is sparse": ("keys.db", tarfile.GNUTYPE_SPARSE),
    "has attributes": ("keys.db", tarfile.XHDTYPE),
    "has a long name": ("keys.db", tarfile.GNUTYPE_LONGNAME),
}


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Return the header of a member."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, "/etc/passwd"
    block: bytes = info.tobuf(tarfile.GNU_FORMAT)
    return block


def member(name: str, content: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Return a member."""
    return header(name, len(content), kind) + content + bytes(-len(content) % 512)


def refused(archive: Path, tmp_path: Path) -> str:
    """Return the one line with which an archive is refused; nothing of it may stay."""
    directory = tmp_path / "restored"
    with pytest.raises(BackupError) as caught, opened(archive, directory):
        pass
    assert not [name for name in names_in(directory) if not name.endswith(".lock")]
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("how", FOREIGN)
def test_a_member_that_no_backup_has_is_refused(how: str, tmp_path: Path) -> None:
    """Only plain files with names of the gateway's own are extracted."""
    name, kind = FOREIGN[how]
    archive = tmp_path / "b.tar"
    archive.write_bytes(member(name, SOME, kind) + bytes(1024))
    assert "is no backup: it has" in refused(archive, tmp_path)
    assert names_in(tmp_path) == ["b.tar", "restored"]


@pytest.mark.parametrize("size", [701, 2**33, 2**60, -1, -512])
def test_a_member_has_no_more_bytes_than_the_archive(size: int, tmp_path: Path) -> None:
    """A size beyond the end, or below nothing, takes no memory and no disk."""
    archive = tmp_path / "b.tar"
    archive.write_bytes(header("keys.db", size) + SOME)
    assert refused(archive, tmp_path).endswith("b.tar: is cut off")


def test_a_member_comes_once(tmp_path: Path) -> None:
    """The second of two files of one name cannot take the place of the first."""
    archive = tmp_path / "b.tar"
    archive.write_bytes(member("keys.db", SOME) * 2 + bytes(1024))
    assert "a file that no backup has" in refused(archive, tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"no tar", bytes(range(256)) * 20, bytes(10240), b"\x1f\x8b" * 600]
)
def test_other_files_are_no_backups(content: bytes, tmp_path: Path) -> None:
    """One line says so."""
    archive = tmp_path / "b.tar"
    archive.write_bytes(content)
    assert "no backup" in refused(archive, tmp_path)


def test_a_pipe_is_no_backup(tmp_path: Path) -> None:
    """Opening one would wait for a writer for ever."""
    archive = tmp_path / "b.tar"
    os.mkfifo(archive)
    assert refused(archive, tmp_path).endswith("is not a file")


GOOD: dict[str, Any] = {
    "format": FORMAT,
    "version": "1",
    "began_at": "2026-01-01T00:00:00+00:00",
    "ended_at": "2026-01-01T00:00:00+00:00",
    "keys_in": "sqlite",
    "files": [],
}


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "[]", "{", "{}", "[" * 100_000, '"' + "x" * 2**20 + '"'),
        json.dumps(GOOD | {"format": "x"}),
        json.dumps(GOOD | {"files": [1]}),
        json.dumps(GOOD | {"files": None}),
        json.dumps(GOOD | {"began_at": 7}),
        json.dumps(GOOD | {"more": 7}),
    ],
)
def test_a_manifest_of_another_shape_is_refused(text: str, tmp_path: Path) -> None:
    """Whatever is wrong with it, there is one line."""
    archive = tmp_path / "b.tar"
    archive.write_bytes(member(MANIFEST, text.encode()) + bytes(1024))
    assert refused(archive, tmp_path).endswith("its manifest.json is not one of a backup")


def test_a_newer_backup_is_left_to_a_newer_program(tmp_path: Path) -> None:
    """Whatever else its manifest has."""
    archive = tmp_path / "b.tar"
    text = json.dumps({"format": FORMAT + 1, "version": "9.0\x1b[2J", "what": "else"})
    archive.write_bytes(member(MANIFEST, text.encode()) + bytes(1024))
    line = refused(archive, tmp_path)
    assert "was made by a newer version ('9.0\\x1b[2J'): upgrade this program" in line


def without_a_file(archive: bytes) -> bytes:
    """Leave out the first member."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return archive[tar.getmembers()[1].offset :]


def with_another_file(archive: bytes) -> bytes:
    """Put a file before the others."""
    return member("journal-9.db", SOME) + archive


def with_another_byte(archive: bytes) -> bytes:
    """Change one byte of the first file."""
    return archive[:600] + bytes([archive[600] ^ 1]) + archive[601:]


@pytest.mark.parametrize("change", [without_a_file, with_another_file, with_another_byte])
def test_the_files_are_those_of_the_manifest(
    change: Callable[[bytes], bytes], archive: Path, tmp_path: Path
) -> None:
    """None is missing, added or changed."""
    archive.write_bytes(change(archive.read_bytes()))
    assert "is damaged: its files are not those that were backed up" in refused(archive, tmp_path)


def test_a_backup_that_is_cut_off_is_refused(archive: Path, tmp_path: Path) -> None:
    """Wherever it ends: the manifest comes last."""
    whole = archive.read_bytes()
    with tarfile.open(archive) as tar:
        end = tar.getmembers()[-1].offset_data
    for length in [*range(0, end, 5_000), end, end + 10]:
        archive.write_bytes(whole[:length])
        refused(archive, tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a backup."""
    directory = tmp_path_factory.mktemp("data")
    filled(directory)
    backed_up(directory, directory.parent / "whole.tar")
    return (directory.parent / "whole.tar").read_bytes()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_a_changed_byte_is_refused_or_changes_nothing(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, at: int, flipped: int
) -> None:
    """A backup on a bad disk brings back what was backed up, or nothing."""
    directory, at = tmp_path_factory.mktemp("changed"), at % len(whole)
    archive, new = directory / "b.tar", directory / "new"
    new.mkdir()
    archive.write_bytes(whole[:at] + bytes([whole[at] ^ flipped]) + whole[at + 1 :])
    try:
        extract(archive, new, nothing)
    except BackupError:
        return
    found = {path.name: path.read_bytes() for path in new.iterdir()}
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        for name, content in found.items():
            member = tar.extractfile(name)
            assert member is not None
            assert member.read() == content
