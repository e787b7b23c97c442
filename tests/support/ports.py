"""Ports of this machine that no other test run takes."""

from __future__ import annotations

import fcntl
import functools
import itertools
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

BLOCKS: Final = range(12_000, 32_000, 500)
"""First ports of the blocks that processes claim, below the ports that the system assigns."""


@functools.cache
def _claimed_ports() -> Iterator[int]:
    """Return this process's own ports; a file, locked until it ends, keeps other runs off them."""
    for first in BLOCKS:
        path = Path(tempfile.gettempdir()) / f"ollama-gateway-test-ports-{first}"
        # a descriptor, since a file object would warn when the process ends
        lock = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return itertools.cycle(range(first, first + BLOCKS.step))
        os.close(lock)
    raise AssertionError("all blocks of ports are in use")


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free and stays free until the test uses it."""
    for port in itertools.islice(_claimed_ports(), BLOCKS.step):
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")
