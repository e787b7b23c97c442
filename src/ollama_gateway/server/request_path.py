"""Split a request's path into the route and the prefixes for clients that cannot send headers.

`/k/KEY/api/tags` carries the key, `/k/KEY/b/NAME/api/tags` also the one backend to ask. The
`ollama` CLI sends no headers of its user's choice, but keeps a path that is part of `OLLAMA_HOST`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote

import attrs

KEY_PREFIX: Final = "/k/"
BACKEND_PREFIX: Final = "/b/"
_SLASHES: Final = re.compile("/{2,}")
BACKEND_HEADER: Final = b"x-gateway-backend"


@attrs.frozen
class RequestPath:
    """The parts of a request's path."""

    route: str
    key: str | None = attrs.field(default=None, repr=False)
    backend: str | None = None

    @classmethod
    def read(cls, path: str) -> RequestPath:
        """Split a path as it stands in the request line."""
        key, after_key = _cut(f"/{path.lstrip('/')}", KEY_PREFIX)
        backend, route = _cut(f"/{after_key.lstrip('/')}", BACKEND_PREFIX)
        return cls(_clean(route), key, None if backend is None else unquote(backend))

    def backend_overrides(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, ...]:
        """Return every backend that the request names as the one to ask, in path and headers."""
        named = [value.decode("latin-1") for name, value in headers if name == BACKEND_HEADER]
        return tuple(named) if self.backend is None else (self.backend, *named)


def _clean(path: str) -> str:
    """Drop empty segments; Ollama's router redirects to the path without them (gin, cleanPath)."""
    return _SLASHES.sub("/", path).rstrip("/") or "/"


def _cut(path: str, prefix: str) -> tuple[str | None, str]:
    """Return the segment after a prefix and the path after it; None if the prefix is missing."""
    if not path.startswith(prefix):
        return None, path
    found, _, following = path.removeprefix(prefix).partition("/")
    return found, f"/{following}"
