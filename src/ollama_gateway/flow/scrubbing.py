"""Remove addresses and paths from the error texts of backends."""

from __future__ import annotations

import re
from typing import Final

from ollama_gateway.backends.backend import Backend

_LOCATIONS: Final = re.compile(
    r"\w+://\S+"  # URLs
    r"|(?<![\w.])/[\w.@/-]+|\b[A-Z]:\\\S+"  # absolute paths
    r"|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"  # IPv4 addresses
    r"|\[[0-9a-fA-F]*:[0-9a-fA-F:]*:[0-9a-fA-F:.]*\](?::\d+)?"  # IPv6 addresses, of two colons
    r"|\b(?:[\w-]+\.)*[\w-]+\.[\w-]+:\d{2,5}\b|\blocalhost:\d+|\blookup \S+"  # host names
)

_BREAKS: Final = re.compile(r"\s*[^\S ]\s*")
"""White space other than spaces, with the spaces around it."""


def scrubbed(text: str, backend: Backend) -> str:
    """Return a backend's error text on one line, without URLs, paths, addresses and host names."""
    line = _BREAKS.sub(" ", text.strip())
    host = rf"(?<![\w-]){re.escape(backend.url.host)}(?![\w-])"
    return re.sub(host, "(hidden)", _LOCATIONS.sub("(hidden)", line), flags=re.IGNORECASE)
