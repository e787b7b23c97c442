"""Ports of this machine that no other test run takes."""

from __future__ import annotations

import fcntl
import functools
import itertools
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

BLOCKS: Final = range(12_000, 32_000, 500)
"""First ports of the blocks that processes claim, below the ports that the system assigns."""


@functools.cache
def _claimed_ports() -> tuple[Iterator[int], IO[str]]:
    """Return this process's own ports, and the locked file that keeps other test runs off them."""
    for first in BLOCKS:
        lock = (Path(tempfile.gettempdir()) / f"ollama-gateway-test-ports-{first}").open("a")
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return itertools.cycle(range(first, first + BLOCKS.step)), lock
        lock.close()
    raise AssertionError("all blocks of ports are in use")


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free and stays free until the test uses it."""
    ports, _ = _claimed_ports()
    for port in itertools.islice(ports, BLOCKS.step):
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")
