"""An operation of the admin API: its place, who may use it, what it takes and answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, Literal

import attrs

from ollama_gateway.control.actor import Actor, Role
from ollama_gateway.control.shapes import Flag, Integer, Shape, Text

PREFIX: Final = "/admin/v1"
MAX_PAGE: Final = 1000
"""Items of a page."""
PAGE: Final = 100
"""Items of a page where none are asked for."""
PAGING: Final[Mapping[str, Text | Integer | Flag]] = {
    "limit": Integer(f"Items of the page; {PAGE} by default.", 1, MAX_PAGE),
    "cursor": Text("`next` of the page before."),
}
"""The query parameters of a list."""


SendLine = Callable[[Any], Awaitable[None]]
"""Sends a document as one line."""


@attrs.frozen
class AdminCall:
    """A request that may be served."""

    actor: Actor
    path: Mapping[str, str] = attrs.field(factory=dict)
    """The values of the template's parameters."""
    query: Mapping[str, Any] = attrs.field(factory=dict)
    """The values of the query parameters that were given, of the types that the shapes say."""
    document: Any = None
    """The body, as the operation's shape allows it; None without one."""
    if_match: str | None = None
    """The ETag that the thing must have."""

    @property
    def limit(self) -> int:
        """The items that a page may have."""
        return int(self.query.get("limit", PAGE))


@attrs.frozen
class AdminReply:
    """The answer of an operation."""

    document: Any = None
    """What JSON can hold; None for an answer without content (204)."""
    etag: str | None = None
    """Without quotes."""
    location: str | None = None
    """The path of a thing that was made."""
    lines: AsyncIterator[Any] | None = None
    """Documents that are sent one by one, each a line (NDJSON), in place of `document`."""
    write: Callable[[SendLine], Awaitable[None]] | None = None
    """Sends such lines itself, in place of `lines`: what it runs beside that ends with it."""


@attrs.frozen
class Operation:
    """One method of one path."""

    method: Literal["GET", "POST", "PATCH", "DELETE"]
    template: str
    """Below `PREFIX`: `/keys/{id}`."""
    role: Role
    """The least that may use it."""
    summary: str
    """One sentence."""
    serve: Callable[[AdminCall], Awaitable[AdminReply]]
    """Raises any of `problems.KNOWN`."""
    answer: Shape | None = None
    """None for an answer without content."""
    query: Mapping[str, Text | Integer | Flag] = attrs.field(factory=dict)
    takes: Shape | None = None
    """The shape of the body; None if it takes none."""
    is_body_optional: bool = False
    status: int = 200
    """Of a good answer."""
    is_streamed: bool = False
    """Whether the answer is lines of the shape `answer`."""
    honours_etag: bool = False
    """Whether it reads `If-Match`."""

    @property
    def name(self) -> str:
        """The name for programs: `get_keys_id`."""
        words = self.template.replace("{", "").replace("}", "").replace("-", "_").split("/")
        return "_".join([self.method.lower(), *filter(None, words)])

    def match(self, path: str) -> dict[str, str] | None:
        """Return the parameters in a path below `PREFIX`, as sent; None if it does not match."""
        parts, given = self.template.split("/"), path.split("/")
        if len(parts) != len(given):
            return None
        found = {}
        for part, value in zip(parts, given, strict=True):
            if part.startswith("{"):
                found[part[1:-1]] = value
            elif part != value:
                return None
        return found
