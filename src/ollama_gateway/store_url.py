"""Read the URLs of stores, which hold passwords, strictly and in one place.

Client libraries disagree about a password that is not percent-encoded: each takes a different part
of it for the host, the path or the database, connects there, and quotes that part in its messages.
So this module refuses whatever RFC 3986 does not allow before a library sees it, and messages that
name a host or a database use the names read here. An error never repeats any of the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

import attrs

_CHARACTER: Final = r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})"
_DIRECTORY: Final = r"%2[Ff](?:[A-Za-z0-9._~-]|%[0-9A-Fa-f]{2})*"
_HOST_OR_SOCKET: Final = (
    rf"(?:\[[0-9A-Fa-f:.]{{2,45}}\]|{_DIRECTORY}|[A-Za-z0-9._-]*)"  # libpq: a socket's directory
    r"(?::[0-9]{1,5})?"
)
_URL: Final = re.compile(
    rf"(?P<scheme>[a-z]+)://"
    rf"(?:{_CHARACTER}*(?::(?:{_CHARACTER}|:)*)?@)?"
    rf"(?P<hosts>{_HOST_OR_SOCKET}(?:,{_HOST_OR_SOCKET})*)"
    rf"(?P<path>(?:/(?:{_CHARACTER}|[:/])*)?)"
    rf"(?:\?(?P<query>(?:{_CHARACTER}|[:/?])*))?"
)
_SCHEME: Final = re.compile(r"([a-z]{1,16})://")
_PORT: Final = re.compile(r":([0-9]{1,5})\Z")
_NAMEABLE: Final = re.compile(r"[A-Za-z0-9._,:/ $~\[\]-]{1,255}")
"""A host, directory or database that messages may name; they show `?` for any other."""


class WrongURL(ValueError):
    """The text is not a store's URL. The message ends a sentence and quotes nothing of the text."""


@attrs.frozen
class StoreURL:
    """The location of a store, without its user and password."""

    scheme: str
    hosts: tuple[str, ...]
    """Percent-decoded, IPv6 addresses in brackets; the client library chooses for an empty one."""
    ports: tuple[int | None, ...]
    """One for each host; None where the URL gives none."""
    path: str
    """Percent-decoded, without the first slash."""
    query: Mapping[str, str] = attrs.field(repr=False)
    """Percent-decoded; the last value of a repeated parameter."""

    @classmethod
    def read(cls, text: str) -> StoreURL:
        """Read a URL; raises `WrongURL`."""
        match = _URL.fullmatch(text)
        if match is None:
            raise WrongURL(
                "cannot be read unambiguously: percent-encode the password and the user"
                " (@ is %40, / is %2F, # is %23, ? is %3F, % is %25, a blank is %20)"
            )
        hosts = match["hosts"].split(",")
        pairs = (pair.partition("=") for pair in (match["query"] or "").split("&") if pair)
        try:
            return cls(
                match["scheme"],
                tuple(_decoded(_PORT.sub("", host)) for host in hosts),
                tuple(int(port[1]) if (port := _PORT.search(host)) else None for host in hosts),
                _decoded(match["path"].removeprefix("/")),
                {_decoded(name): _decoded(value) for name, _, value in pairs},
            )
        except UnicodeDecodeError:
            raise WrongURL("holds percent-encoded bytes that are not UTF-8") from None

    @property
    def location(self) -> str:
        """Return PostgreSQL's `HOST/DATABASE` for messages; parameters count, as in libpq."""
        hosts = self.query.get("host") or self.query.get("hostaddr") or ",".join(self.hosts)
        database = self.query.get("dbname") or self.path
        found = [text for text in (hosts or "local", database) if text]
        return "/".join(text if _NAMEABLE.fullmatch(text) else "?" for text in found)


def scheme_of(text: str) -> str:
    """Return the scheme before `://`; empty if the text does not begin with one."""
    match = _SCHEME.match(text)
    return match[1] if match else ""


def _decoded(text: str) -> str:
    return unquote(text, errors="strict")
