"""The names by which clients may address a machine, from settings and from the `Host` header.

Each name has one spelling: case, a final dot and the notation of an address make no difference.
"""

from __future__ import annotations

import re
from typing import Final

from ollama_gateway.wire.networks import address_of

_HOST_NAME: Final = re.compile(r"[a-z0-9_](?:[a-z0-9._-]{0,251}[a-z0-9_])?")
_HOST_AND_PORT: Final = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[^:\[\]]{1,254})(?::[0-9]{1,5})?")


def name_of(text: str) -> str | None:
    """Normalize a name or an address without a port; None if the text is neither."""
    is_bracketed = text.startswith("[") and text.endswith("]")
    name = text[1:-1] if is_bracketed else text.lower().removesuffix(".")
    if (address := address_of(name)) is not None:
        return str(address)
    return name if not is_bracketed and _HOST_NAME.fullmatch(name) else None


def name_in(host: str) -> str | None:
    """Return the normalized name in a `Host` header, whatever the port; None if it is malformed."""
    match = _HOST_AND_PORT.fullmatch(host.lower())
    return None if match is None else name_of(match[1])


def is_loopback(name: str) -> bool:
    """Return whether a normalized name is this machine's, and no DNS server can redirect it."""
    address = address_of(name)
    return name == "localhost" if address is None else address.is_loopback
