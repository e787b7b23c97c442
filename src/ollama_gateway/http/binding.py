"""Listening sockets. Without hypercorn and Trio: `gatewayctl config check` binds addresses too."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Final

from ollama_gateway.keepalive import keep_alive

BACKLOG: Final = 1024
"""Clients that wait to be accepted."""


class AddressTaken(Exception):
    """The address cannot be bound; the message is one line for the operator."""


def bind(host: str, port: int) -> list[socket.socket]:
    """Return TCP sockets bound to every address of `host`; raises AddressTaken with the reason.

    They do not listen yet: a client that connects too early is refused, not kept waiting.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return [_bound(family, address) for family, _, _, _, address in found]
    except OSError as error:
        shown = f"[{host}]" if ":" in host else host
        reason = error.strerror or "unknown address"
        raise AddressTaken(f"cannot listen on {shown}:{port}: {reason}") from error


def _bound(family: int, address: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
    except OSError:
        sock.close()
        raise
    return sock


def listen(sockets: Sequence[socket.socket]) -> None:
    """Let clients connect; raises AddressTaken. A second call does nothing.

    Accepted connections inherit the keepalive options that are set here.
    """
    try:
        for sock in sockets:
            keep_alive(sock)
            sock.listen(BACKLOG)
    except OSError as error:
        raise AddressTaken("another process has taken the address") from error
