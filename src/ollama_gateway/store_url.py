"""The URLs of stores, which hold passwords: read strictly, by one reader for all of them.

Readers differ over a password that is not percent-encoded: each takes another part of it for the
host, the path or the database, connects there, and names that part in its messages. So what RFC
3986 does not allow is refused here before any library sees it, and where a message names a host or
a database it is as read here. A fault never repeats any of the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

import attrs

_CHARACTER: Final = r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})"
_DIRECTORY: Final = r"%2[Ff](?:[A-Za-z0-9._~-]|%[0-9A-Fa-f]{2})*"
_HOST_AND_PORT: Final = (
    rf"(?:\[[0-9A-Fa-f:.]{{2,45}}\]|{_DIRECTORY}|[A-Za-z0-9._-]*)"  # libpq: of a Unix socket
    r"(?::[0-9]{1,5})?"
)
_URL: Final = re.compile(
    rf"(?P<scheme>[a-z]+)://"
    rf"(?:{_CHARACTER}*(?::(?:{_CHARACTER}|:)*)?@)?"
    rf"(?P<places>{_HOST_AND_PORT}(?:,{_HOST_AND_PORT})*)"
    rf"(?P<path>(?:/(?:{_CHARACTER}|[:/])*)?)"
    rf"(?:\?(?P<query>(?:{_CHARACTER}|[:/?])*))?"
)
_SCHEME: Final = re.compile(r"([a-z]{1,16})://")
_PORT: Final = re.compile(r":([0-9]{1,5})\Z")
_NAMEABLE: Final = re.compile(r"[A-Za-z0-9._,:/ $~\[\]-]{1,255}")
"""A host, a directory or a database that is named in messages; others are not."""


class WrongURL(ValueError):
    """No URL of a store; half a sentence for the operator, with nothing of the text in it."""


@attrs.frozen
class StoreURL:
    """Where a store is, without what opens it."""

    scheme: str
    hosts: tuple[str, ...]
    """Decoded, IPv6 addresses in brackets; an empty one is left to the client library."""
    ports: tuple[int | None, ...]
    """One for each host."""
    path: str
    """Decoded, without the first slash."""
    query: Mapping[str, str] = attrs.field(repr=False)
    """Decoded; of what is given twice the last."""

    @classmethod
    def read(cls, text: str) -> StoreURL:
        """Read a URL; raises `WrongURL`."""
        match = _URL.fullmatch(text)
        if match is None:
            raise WrongURL(
                "cannot be read without doubt: percent-encode the password and the user"
                " (@ is %40, / is %2F, # is %23, ? is %3F, % is %25, a blank is %20)"
            )
        places = match["places"].split(",")
        pairs = (pair.partition("=") for pair in (match["query"] or "").split("&") if pair)
        try:
            return cls(
                match["scheme"],
                tuple(_decoded(_PORT.sub("", place)) for place in places),
                tuple(int(port[1]) if (port := _PORT.search(place)) else None for place in places),
                _decoded(match["path"].removeprefix("/")),
                {_decoded(name): _decoded(value) for name, _, value in pairs},
            )
        except UnicodeDecodeError:
            raise WrongURL("holds percent-encoded bytes that are not UTF-8") from None

    @property
    def place(self) -> str:
        """`HOST/DATABASE` of PostgreSQL for messages, where its parameters count as libpq's do."""
        hosts = self.query.get("host") or self.query.get("hostaddr") or ",".join(self.hosts)
        database = self.query.get("dbname") or self.path
        found = [text for text in (hosts or "local", database) if text]
        return "/".join(text if _NAMEABLE.fullmatch(text) else "?" for text in found)


def scheme_of(text: str) -> str:
    """What stands before `://`; empty where that is no scheme."""
    match = _SCHEME.match(text)
    return match[1] if match else ""


def _decoded(text: str) -> str:
    return unquote(text, errors="strict")
