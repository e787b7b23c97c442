"""Where a request goes: the route, and what may stand before it for clients without headers.

`/k/KEY/api/tags` carries the key, `/k/KEY/b/NAME/api/tags` also the one backend that is asked. The
`ollama` CLI sends no header of its user's, but keeps a path that stands in `OLLAMA_HOST`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote

import attrs

KEY_PREFIX: Final = "/k/"
BACKEND_PREFIX: Final = "/b/"
BACKEND_HEADER: Final = b"x-gateway-backend"


@attrs.frozen
class RequestPath:
    """A request's path, taken apart."""

    route: str
    key: str | None = attrs.field(default=None, repr=False)
    backend: str | None = None

    @classmethod
    def read(cls, path: str) -> RequestPath:
        """Take a path apart, as it stands in the request line."""
        key, rest = _cut(path, KEY_PREFIX)
        backend, route = _cut(rest, BACKEND_PREFIX)
        return cls(route, key, None if backend is None else unquote(backend))

    def pins(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, ...]:
        """All backends that a request names as the one to ask: in its path and in its headers."""
        named = [value.decode("latin-1") for name, value in headers if name == BACKEND_HEADER]
        return tuple(named) if self.backend is None else (self.backend, *named)


def _cut(path: str, prefix: str) -> tuple[str | None, str]:
    """What stands behind a prefix, up to the next slash, and the path from there on."""
    if not path.startswith(prefix):
        return None, path
    found, _, rest = path.removeprefix(prefix).partition("/")
    return found, f"/{rest}"
