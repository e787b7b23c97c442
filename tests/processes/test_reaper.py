"""A container's first process reaps orphans, and leaves alone those that it waits for itself."""

from __future__ import annotations

import subprocess
import sys

from tests.support.patience import PATIENCE

ORPHANS = """
import ctypes, os, signal
from ollama_gateway.processes.reaper import reap, reap_as_init

PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0

def orphan():
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        if os.fork() == 0:
            os.write(writing, b"%d" % os.getpid())
            signal.pause() if {lives} else os._exit(0)
        os._exit(0)
    number = int(os.read(reading, 20))
    os.waitpid(parent, 0)
    if not {lives}:
        os.waitid(os.P_PID, number, os.WEXITED | os.WNOWAIT)
    return number

numbers = [orphan() for _ in range(3)]
reap_as_init()
print(sum(os.path.exists(f"/proc/{{n}}") for n in numbers))
reap()
print(sum(os.path.exists(f"/proc/{{n}}") for n in numbers))
for n in numbers:
    {lives} and os.kill(n, signal.SIGKILL)
"""


OWN = """
import os, subprocess, sys
from ollama_gateway.processes.reaper import reap

own, other = [subprocess.Popen([sys.executable, "-c", "exit(3)"]) for _ in range(2)]
for child in (own, other):
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
reap({own.pid})
print(os.path.exists(f"/proc/{other.pid}"), own.wait())
"""


def test_own_children_are_left_to_those_who_wait_for_them() -> None:
    """The parent of several processes still learns the exit code of each."""
    said = subprocess.check_output([sys.executable, "-c", OWN], text=True, timeout=PATIENCE)

    assert said == "False 3\n"


def counted(*, lives: bool) -> list[str]:
    """Count three orphans after reaping as another process, and as the first one."""
    code = ORPHANS.format(lives=lives)
    return subprocess.check_output(
        [sys.executable, "-c", code], text=True, timeout=PATIENCE
    ).split()


def test_orphans_that_ended_are_gone() -> None:
    """All ended orphans are reaped at once; a process that is not the first leaves them."""
    assert counted(lives=False) == ["3", "0"]


def test_orphans_that_live_are_left_alone() -> None:
    """Reaping does not wait for running orphans."""
    assert counted(lives=True) == ["3", "3"]
