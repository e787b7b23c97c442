"""Reach a listener of this machine by the address that the settings have for it."""

from __future__ import annotations

import socket
from typing import Final

from ollama_gateway.settings.addresses import ListenAddress

CONNECT_SECONDS: Final = 0.3
_REACHABLE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing listens here
"""The address to connect to, for listeners on all addresses."""


def url_of(bind: ListenAddress, scheme: str = "http") -> str:
    """Return the URL of a listener, without a path."""
    host = _REACHABLE.get(bind.host, bind.host)
    return f"{scheme}://[{host}]:{bind.port}" if ":" in host else f"{scheme}://{host}:{bind.port}"


def is_listening(bind: ListenAddress) -> bool:
    """Whether a connection can be made, within `CONNECT_SECONDS`."""
    host = _REACHABLE.get(bind.host, bind.host)
    try:
        with socket.create_connection((host, bind.port), timeout=CONNECT_SECONDS):
            return True
    except OSError:
        return False
