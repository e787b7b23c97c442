"""Reach a listener of this machine by the address that the settings have for it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from ollama_gateway.settings.addresses import ListenAddress

if TYPE_CHECKING:
    from ollama_gateway.settings import ServerSettings

CONNECT_SECONDS: Final = 0.3
_REACHABLE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing listens here
"""The address to connect to, for listeners on all addresses."""


def address_of(bind: ListenAddress) -> tuple[str, int]:
    """Return the host and the port to connect to."""
    return _REACHABLE.get(bind.host, bind.host), bind.port


def public_url(server: ServerSettings) -> str:
    """Return the URL at which clients of this machine reach the gateway, without a path."""
    scheme = "https" if server.tls_cert else "http"
    host, port = address_of(server.bind)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def is_listening(bind: ListenAddress) -> bool:
    """Whether a connection can be made, within `CONNECT_SECONDS`."""
    try:
        with socket.create_connection(address_of(bind), timeout=CONNECT_SECONDS):
            return True
    except OSError:
        return False
