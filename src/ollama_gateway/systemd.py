"""Tell systemd about this service: that it is ready, reloads its settings, or stops.

sd_notify(3): a datagram to the socket that `NOTIFY_SOCKET` names, of which systemd wants no answer.
Without that variable there is no systemd that listens, and nothing happens. Only the process that
systemd has started may notify it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def notify_ready() -> None:
    """Say that clients are served."""
    _send("READY=1")


def notify_stopping() -> None:
    """Say that the service drains."""
    _send("STOPPING=1")


@contextmanager
def reload_notified() -> Iterator[None]:
    """Say when the block, a reload, begins and ends; the time tells systemd which one it is."""
    _send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
    try:
        yield
    finally:
        notify_ready()


def _send(text: str) -> None:
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    # "@" stands for the zero byte with which an abstract address begins (unix(7)).
    address = "\0" + path[1:] if path.startswith("@") else path
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
        sock.sendto(text.encode(), address)
