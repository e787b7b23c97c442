"""Take over listening sockets from systemd (sd_listen_fds(3)).

A `.socket` unit binds the clients' address and keeps it whatever becomes of the gateway behind it.
So no client is refused while one process drains and the next one starts: new clients wait in the
socket's backlog. Three variables describe the sockets; podman passes variables and sockets on to a
container's first process:

- `LISTEN_PID`: the process that they are for; sockets for another process are left alone,
- `LISTEN_FDS`: how many there are, from descriptor 3 on,
- `LISTEN_FDNAMES`: their names, separated by colons; without it they have no names.

All of them are for clients. The admin listener makes its own socket: `gatewayctl` looks for it at
`server.admin_bind`.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import MutableMapping
from typing import Final

from ollama_gateway.http.binding import AddressTaken

FIRST_DESCRIPTOR: Final = 3
"""The first descriptor that systemd passes."""
UNNAMED: Final = "unknown"
"""systemd's name for a socket without a name."""
_FAMILIES: Final = {socket.AF_INET, socket.AF_INET6}
_COUNT: Final = re.compile(r"[0-9]{1,4}")


def handed_over(
    environ: MutableMapping[str, str], first: int = FIRST_DESCRIPTOR
) -> list[socket.socket]:
    """Return the listening sockets passed to this process; usually there are none.

    The variables are removed from `environ`, so that no program started later believes them.

    Args:
        environ: the environment of the process.
        first: the first descriptor that is passed; tests use another than 3.

    Raises:
        AddressTaken: a promised descriptor is missing or is no listening TCP socket.

    """
    pid, count, names = (
        environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
    )
    if pid != str(os.getpid()):
        return []
    if not _COUNT.fullmatch(count):
        raise AddressTaken("LISTEN_FDS is not a number of sockets")
    named = names.split(":") if names else [UNNAMED] * int(count)
    if len(named) != int(count):
        raise AddressTaken("LISTEN_FDNAMES does not have one name for each of LISTEN_FDS")
    with contextlib.ExitStack() as opened:
        found = [opened.enter_context(_listening_socket(first + i)) for i in range(len(named))]
        opened.pop_all()
    return found


def _listening_socket(descriptor: int) -> socket.socket:
    """Return the listening socket of a descriptor, which no child process inherits."""
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
    return AddressTaken(f"descriptor {descriptor} of LISTEN_FDS is not a listening TCP socket")
