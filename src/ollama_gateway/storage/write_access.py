"""Who else may write what this program believes: the question of ssh's StrictModes.

Keys, the trail, what was spent and secrets are believed as they lie on the disk. Whoever may write
a file, or put another in its place, decides what they say; who may only read it does not matter
here (a secret that podman or Kubernetes mounts is readable by all). Root may do anything anyway.

A group that nobody else is in harms nobody. Two are known: the user's own, of which a umask of 002
makes use, and root's, through which an image runs under a user id that somebody else chose
(OpenShift). Root itself needs neither.
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
    """Whose writing is no fault."""

    users: frozenset[int]
    is_harmless: Callable[[int], bool] = lambda _group: False
    """Whether a group stands for no others; asked where one may write, as it may take long."""

    @classmethod
    def of_process(cls) -> Trusted:
        """This process's user and root."""
        user = os.geteuid()
        if user == ROOT:
            return cls(frozenset({ROOT}))
        return cls(frozenset({ROOT, user}), partial(_is_harmless, user))

    def fault(self, path: Path) -> str | None:
        """Who else may write a file or a directory, in a few words; raises OSError."""
        return self.fault_of(path.stat())

    def fault_of(self, status: os.stat_result) -> str | None:
        """The same of one that was looked at."""
        if status.st_uid not in self.users:
            return f"belongs to another user (uid {status.st_uid})"
        return self._open(status)

    def fault_around(self, path: Path) -> str | None:
        """Who else may put another file or directory in its place; raises OSError.

        In a directory with the sticky bit (`/tmp`) only the owner may, and nobody in one that is
        mounted to be read only (Kubernetes gives those of a ConfigMap the mode 0777).
        """
        for directory in {path.absolute().parent, path.resolve().parent}:
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
    """What an operator does about it."""
    fix = "chown it" if "belongs" in fault else "chmod go-w it"
    return f"{fix}, or set storage.allow_shared_data_dir"


def faults_in(
    directory: Path, names: Iterable[str], trusted: Trusted
) -> Iterator[tuple[Path, str]]:
    """What others may write of a directory, of its files of these patterns and of its place.

    Nothing where there is no directory yet, and its place is safe. Raises OSError.
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
    """Whether a process of a user loses nothing to a group."""
    if group == ROOT:
        return group in {os.getegid(), *os.getgroups()}
    try:
        named, members = pwd.getpwuid(user), grp.getgrgid(group).gr_mem
    except KeyError:
        return False
    having = {other.pw_name for other in pwd.getpwall() if other.pw_gid == group}
    return having | set(members) == {named.pw_name}
