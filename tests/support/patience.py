"""How long tests wait for one step, so that none depends on how fast the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import anyio

PATIENCE: Final = 120.0
"""Seconds for one step: a process starts, an answer comes, a thread arrives. Only what hangs takes
longer, whatever else the machine does."""
HANGS: Final = 3600.0
"""Seconds for a whole story, whose steps have their own: nothing that works takes as long."""


def wait_until(is_so: Callable[[], bool], fault: Callable[[], object] | str = "") -> None:
    """Wait for what another thread or process does; fail with the fault if it does not come."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, fault() if callable(fault) else fault
        time.sleep(0.01)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what another task, thread or process does; fail if it does not come."""
    with anyio.fail_after(PATIENCE):
        while not is_so():  # noqa: ASYNC110 - no event tells of it
            await anyio.sleep(0.005)
