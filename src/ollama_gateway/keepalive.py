"""Let the kernel notice within about 30 s that a peer has vanished: no power, no cable, a firewall.

Such a peer sends nothing, not even an end. TCP alone waits for two hours on an idle connection, and
for about fifteen minutes when data is unacknowledged. With these options the kernel probes a silent
peer after 15 s and then every 5 s. It breaks the connection after three unanswered probes, or when
sent bytes stay unacknowledged for `WRITE_TIMEOUT`. A living peer that does not read for that long
counts as vanished too, if more is waiting than its window holds (tcp(7), TCP_USER_TIMEOUT).

Systems other than Linux support some of these options; there, the system's own limit on
unacknowledged data stays.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any, Final

IDLE: Final = 15
"""Seconds of silence before the first probe."""
INTERVAL: Final = 5
"""Seconds between probes."""
COUNT: Final = 3
"""Unanswered probes that end a connection."""
WRITE_TIMEOUT: Final = 30.0
"""Seconds that a write to a peer may take, and that sent bytes may stay unacknowledged."""

_VALUES: Final = {
    "TCP_KEEPIDLE": IDLE,
    "TCP_KEEPALIVE": IDLE,  # macOS's name for it
    "TCP_KEEPINTVL": INTERVAL,
    "TCP_KEEPCNT": COUNT,
    "TCP_USER_TIMEOUT": round(WRITE_TIMEOUT * 1000),
}
OPTIONS: Final = {
    getattr(socket, name): value for name, value in _VALUES.items() if hasattr(socket, name)
}
"""TCP options that this system has, by number."""


def keep_alive(sock: socket.socket) -> None:
    """Have the kernel watch a TCP connection, or all that a listening socket will accept.

    On Linux an accepted socket inherits the options, unless it was waiting already when they were
    set. If the system refuses an option, the connection works without it.
    """
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in OPTIONS.items():
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def of_redis(url: str) -> dict[str, Any]:
    """Return the same options as arguments for redis-py; none for a Unix socket."""
    if url.startswith("unix:"):
        return {}
    return {"socket_keepalive": True, "socket_keepalive_options": OPTIONS}
