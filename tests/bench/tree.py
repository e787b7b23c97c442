"""The use of a process and its descendants, as the operating system counts it (proc(5))."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
"""Seconds; figures are multiples of it."""
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
KIB: Final = 1024


def pids(root: int) -> list[int]:
    """Return the process and all its descendants."""
    found = [root]
    for pid in found:
        for task in _tasks(pid):
            found += [int(child) for child in _text(task / "children").split()]
    return found


def cpu(root: int) -> float:
    """Return seconds of CPU, in user and system mode, with children that have ended."""
    return sum(_cpu(pid) for pid in pids(root))


def rss(root: int) -> int:
    """Return bytes of resident memory."""
    return sum(int(_text(_of(pid) / "statm").split()[1]) for pid in pids(root)) * PAGE


def descriptors(root: int) -> int:
    """Return the number of open file descriptors."""
    return sum(len(list((_of(pid) / "fd").iterdir())) for pid in pids(root))


def _cpu(pid: int) -> float:
    fields = _text(_of(pid) / "stat").rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) * TICK


def _of(pid: int) -> Path:
    return Path("/proc", str(pid))


def _tasks(pid: int) -> list[Path]:
    try:
        return list((_of(pid) / "task").iterdir())
    except FileNotFoundError:
        return []


def _text(path: Path) -> str:
    """Read a file of /proc; empty if its process has ended."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
