"""How soon the kernel finds that a peer has vanished: a machine without power, a cable, a firewall.

Such a peer says nothing, no end either, and TCP by itself waits two hours where nothing is sent and
a quarter of one where something is. These options make both about 30 s: a silent peer is asked
after 15 s and then every 5 s, and the connection breaks at the third question without an answer, or
once bytes have been on their way for as long as a write may take. A peer that lives but does not
read for as long counts as vanished too, where more waits to be sent than it has room for
(tcp(7), TCP_USER_TIMEOUT).

The systems other than Linux have some of these options; the time without an answer to what was sent
stays theirs.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any, Final

IDLE: Final = 15
"""Seconds of silence before the first question."""
INTERVAL: Final = 5
"""Seconds between questions."""
COUNT: Final = 3
"""Questions without an answer that end a connection."""
WRITE_TIMEOUT: Final = 30.0
"""Seconds that a write to a peer may take, and bytes of ours may be on their way."""

_VALUES: Final = {
    "TCP_KEEPIDLE": IDLE,
    "TCP_KEEPALIVE": IDLE,  # macOS's name of the same
    "TCP_KEEPINTVL": INTERVAL,
    "TCP_KEEPCNT": COUNT,
    "TCP_USER_TIMEOUT": round(WRITE_TIMEOUT * 1000),
}
OPTIONS: Final = {
    getattr(socket, name): value for name, value in _VALUES.items() if hasattr(socket, name)
}
"""Options of TCP, by their numbers on this system."""


def keep_alive(sock: socket.socket) -> None:
    """Have the kernel watch a TCP connection, or all those that a listening socket will accept.

    Linux hands them on to accepted sockets, those excepted that are waiting already. Where a system
    refuses an option, the connection is served without it.
    """
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in OPTIONS.items():
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def of_redis(url: str) -> dict[str, Any]:
    """The same as arguments of redis-py; its Unix sockets know none of it."""
    if url.startswith("unix:"):
        return {}
    return {"socket_keepalive": True, "socket_keepalive_options": OPTIONS}
