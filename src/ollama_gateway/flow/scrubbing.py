"""Remove addresses, paths and the model behind an alias from the error texts of backends."""

from __future__ import annotations

import re
from typing import Final

from ollama_gateway.backends.backend import Backend
from ollama_gateway.flow.admission import ModelCall

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


def error_for_client(text: str, backend: Backend, call: ModelCall) -> str:
    """Return a backend's error text for the client of a call: with the name that it asked for."""
    line = scrubbed(text, backend)
    if call.alias is None:
        return line
    for name in (call.model.key, call.name_for(backend), call.model.short):
        line = line.replace(name, call.requested_name.strip())
    return line
