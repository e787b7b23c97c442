"""Which other users may write a file or replace it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ollama_gateway.storage.private_file import make_directory
from ollama_gateway.storage.write_access import Trusted, faults_in

ME = os.geteuid()
NOBODY_ELSE = Trusted(frozenset({0, ME}))
FILES = ("keys.db*",)


def status(mode: int, user: int = 1000, group: int = 1000) -> os.stat_result:
    """A stat result."""
    return os.stat_result((mode, 1, 1, 1, user, group, 0, 0, 0, 0))


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o444, 0o755, 0o700, 0o1755, 0o000])
def test_reading_is_no_fault(mode: int) -> None:
    """Others may read a file, such as a mounted secret."""
    trusted = Trusted(frozenset({0, 1000}))
    assert trusted.fault_of(status(mode)) is None
    assert trusted.fault_of(status(mode, user=0)) is None


@pytest.mark.parametrize("mode", [0o777, 0o702, 0o666, 0o602, 0o660, 0o770, 0o720, 0o1777, 0o2775])
def test_writing_by_others_is_one(mode: int) -> None:
    """Write access for a group or for all is a fault; the sticky bit does not prevent new files."""
    fault = Trusted(frozenset({0, 1000})).fault_of(status(mode))
    assert fault == f"others may write (mode {mode:04o})"


def test_another_owner_is_one() -> None:
    """The owner of a file can grant itself write access."""
    fault = Trusted(frozenset({0, 1000})).fault_of(status(0o600, user=1001))
    assert fault == "belongs to another user (uid 1001)"


def test_a_group_that_stands_for_nobody_else() -> None:
    """The user's own group, and root's in an image, may write; other groups may not."""
    trusted = Trusted(frozenset({0, 1000}), lambda group: group == 1000)
    assert trusted.fault_of(status(0o660)) is None
    assert trusted.fault_of(status(0o660, group=1001)) == "others may write (mode 0660)"
    assert trusted.fault_of(status(0o662)) == "others may write (mode 0662)"


def test_root_needs_no_group(tmp_path: Path) -> None:
    """A process of root trusts root alone; any other also trusts its own user."""
    trusted = Trusted.of_process()
    assert trusted.users == {0, ME}
    assert trusted.fault(tmp_path) is None
    assert ME or not trusted.is_harmless(0)


def test_what_lies_in_an_open_directory(tmp_path: Path) -> None:
    """Others may replace the file, also through a link, unless the directory is sticky."""
    open_, inner = tmp_path / "open", tmp_path / "open" / "inner"
    inner.mkdir(parents=True, mode=0o700)
    link = tmp_path / "link"
    link.symlink_to(inner)
    for mode, is_fault in ((0o777, True), (0o702, True), (0o1777, False), (0o755, False)):
        open_.chmod(mode)
        assert (NOBODY_ELSE.fault_around(inner) is not None) is is_fault
        assert (NOBODY_ELSE.fault_around(link) is not None) is is_fault
        assert (NOBODY_ELSE.fault_around(open_ / "to come") is not None) is is_fault


def test_a_directory_with_its_files(tmp_path: Path) -> None:
    """Every file that others may write is named; files of other programs are ignored."""
    tmp_path.chmod(0o700)
    for name, mode in (("keys.db", 0o600), ("keys.db-wal", 0o666), ("notes", 0o666)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    (tmp_path / "keys.db.bak-1").symlink_to(tmp_path / "nowhere")
    wal = (tmp_path / "keys.db-wal", "others may write (mode 0666)")
    assert list(faults_in(tmp_path, FILES, NOBODY_ELSE)) == [wal]
    tmp_path.chmod(0o777)
    assert [path for path, _ in faults_in(tmp_path, FILES, NOBODY_ELSE)] == [tmp_path, wal[0]]
    assert list(faults_in(tmp_path / "a" / "b", FILES, NOBODY_ELSE)) == []


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_what_is_made_is_its_owners_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """The directory is its owner's alone, and its new parents are writable by no other user."""
    before = os.umask(umask)
    try:
        make_directory(tmp_path / "a" / "b" / "data")
        make_directory(tmp_path / "a" / "b" / "data")
    finally:
        os.umask(before)

    assert (tmp_path / "a" / "b" / "data").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a" / "b").stat().st_mode & 0o022 == 0
    assert list(faults_in(tmp_path / "a" / "b" / "data", FILES, NOBODY_ELSE)) == []
