"""Checks whether other users could write the files this program trusts, as ssh's StrictModes does.

The program trusts its keys, audit log, usage journals and secrets as they lie on the disk. A user
that can write such a file, or replace it, decides what it says. Read access does not matter here
(secrets that podman or Kubernetes mounts are readable by all), and root can do anything anyway.

A group with no other member is harmless. Two such groups are known: the user's own, which a umask
of 002 relies on, and root's, through which an image runs under an arbitrary user id (OpenShift).
Root itself needs neither.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import attrs

ROOT: Final = 0


@attrs.frozen
class Trusted:
    """The users and groups that may write."""

    users: frozenset[int]
    is_harmless: Callable[[int], bool] = lambda _group: False
    """Whether a group has no other member; asked only if the group may write, as it is slow."""

    @classmethod
    def of_process(cls) -> Trusted:
        """Trust this process's user and root."""
        user = os.geteuid()
        if user == ROOT:
            return cls(frozenset({ROOT}))
        return cls(frozenset({ROOT, user}), partial(_is_harmless, user))

    def fault(self, path: Path) -> str | None:
        """Return in a few words who else may write a file or directory; raises OSError."""
        return self.fault_of(path.stat())

    def fault_of(self, status: os.stat_result) -> str | None:
        """Return the same for a stat result."""
        if status.st_uid not in self.users:
            return f"belongs to another user (uid {status.st_uid})"
        return self._open(status)

    def fault_around(self, path: Path) -> str | None:
        """Return who else may replace the file or directory; raises OSError.

        In a directory with the sticky bit (`/tmp`) only the owner may, and on a read-only mount no
        user may (Kubernetes gives the directory of a ConfigMap the mode 0777).
        """
        for directory in {path.absolute().parent, Path(os.path.realpath(path)).parent}:
            status = directory.stat()
            is_fixed = status.st_mode & stat.S_ISVTX or os.statvfs(directory).f_flag & os.ST_RDONLY
            if not is_fixed and (fault := self._open(status)):
                return f"lies in a directory that {fault}"
        return None

    def _open(self, status: os.stat_result) -> str | None:
        mode = stat.S_IMODE(status.st_mode)
        by_group = mode & stat.S_IWGRP
        if mode & stat.S_IWOTH or (by_group and not self.is_harmless(status.st_gid)):
            return f"others may write (mode {mode:04o})"
        return None


def remedy(fault: str) -> str:
    """Return how an operator mends the fault."""
    fix = "chown it" if "belongs" in fault else "chmod go-w it"
    return f"{fix}, or set storage.allow_shared_data_dir"


def faults_in(
    directory: Path, names: Iterable[str], trusted: Trusted
) -> Iterator[tuple[Path, str]]:
    """Yield the faults of a directory, its location, and its files that match the patterns.

    A missing directory has no fault if its location has none. Raises OSError.
    """
    if not directory.exists():
        fault = trusted.fault_around(directory) if directory.absolute().parent.exists() else None
        found = [(directory, fault)]
    else:
        paths = sorted(path for name in names for path in directory.glob(name))
        found = [(directory, trusted.fault(directory) or trusted.fault_around(directory))]
        found += [(path, trusted.fault(path)) for path in paths if path.exists()]
    return ((path, fault) for path, fault in found if fault)


def _is_harmless(user: int, group: int) -> bool:
    """Return whether a group gives no other user access to the files of `user`."""
    if group == ROOT:
        return group in {os.getegid(), *os.getgroups()}
    try:
        named, members = pwd.getpwuid(user), grp.getgrgid(group).gr_mem
    except KeyError:
        return False
    having = {other.pw_name for other in pwd.getpwall() if other.pw_gid == group}
    return having | set(members) == {named.pw_name}
