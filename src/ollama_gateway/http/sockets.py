"""Listening sockets that another program made: how systemd hands them over (sd_listen_fds(3)).

A `.socket` unit binds the clients' address and keeps it whatever becomes of the gateway behind it,
so while one process drains and the next one starts nobody is refused: who comes waits in the
socket's backlog. Three variables tell of the sockets; podman passes both on to a container's first
process:

- `LISTEN_PID`: for which process they are; those of another are left alone,
- `LISTEN_FDS`: how many, from descriptor 3 on,
- `LISTEN_FDNAMES`: their names, colons between; where it is missing they have none.

All of them are the clients' address. The admin listener makes its own: `gatewayctl` looks for it
at `server.admin_bind`.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import MutableMapping
from typing import Final

from ollama_gateway.http.listener import AddressTaken

FIRST_DESCRIPTOR: Final = 3
"""The first descriptor that is handed over."""
UNNAMED: Final = "unknown"
"""What systemd calls a socket without a name."""
_FAMILIES: Final = {socket.AF_INET, socket.AF_INET6}
_COUNT: Final = re.compile(r"[0-9]{1,4}")


def handed_over(
    environ: MutableMapping[str, str], first: int = FIRST_DESCRIPTOR
) -> list[socket.socket]:
    """The sockets that were made for this process, listening already; none is the usual case.

    The variables are taken out of `environ`, so that no program started later believes in them.

    Args:
        environ: the environment of the process.
        first: the first descriptor that is handed over; 3, unless a test has its own there.

    Raises:
        AddressTaken: what they promise is not there, or no listening TCP socket.

    """
    pid, count, names = (
        environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
    )
    if pid != str(os.getpid()):
        return []
    if not _COUNT.fullmatch(count):
        raise AddressTaken("LISTEN_FDS is no number of sockets")
    named = names.split(":") if names else [UNNAMED] * int(count)
    if len(named) != int(count):
        raise AddressTaken("LISTEN_FDNAMES has not one name for each of LISTEN_FDS")
    with contextlib.ExitStack() as opened:
        found = [opened.enter_context(_listening_socket(first + i)) for i in range(len(named))]
        opened.pop_all()
    return found


def _listening_socket(descriptor: int) -> socket.socket:
    """The socket behind a descriptor, which no child inherits."""
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError:
        raise _no_listener(descriptor) from None
    if not _is_listening(sock):
        sock.close()
        raise _no_listener(descriptor)
    sock.set_inheritable(False)
    sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
    return sock


def _is_listening(sock: socket.socket) -> bool:
    return (
        sock.family in _FAMILIES
        and sock.type == socket.SOCK_STREAM
        and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    )


def _no_listener(descriptor: int) -> AddressTaken:
    return AddressTaken(f"descriptor {descriptor} of LISTEN_FDS is no listening TCP socket")
