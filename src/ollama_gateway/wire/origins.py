"""Which web pages may read answers: the `Origin` of a browser against patterns.

A pattern is an origin as browsers write it (`https://chat.example.com`), with `*` in three places
only, so that none says more than it seems to: for the whole host (`app://*`, any port too), for
the labels in front of a name (`https://*.example.com`, not the name itself), for the port
(`http://localhost:*`). `*` alone is every page.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

ANY_ORIGIN: Final = "*"

_PATTERN: Final = re.compile(
    r"([a-z][a-z0-9+.-]*)://"
    r"(\*|(?:\*\.)?[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\])"
    r"(:\*|:[0-9]{1,5})?"
)
_ORIGIN_HOST: Final = r"(?:[a-z0-9._~-]*|\[[0-9a-f:.]+\])"
_LABELS: Final = r"(?:[a-z0-9_-]+\.)+"
_ANY_PORT: Final = r"(?::[0-9]{1,5})?"
_ORIGIN: Final = re.compile(rf"[a-z][a-z0-9+.-]*://{_ORIGIN_HOST}{_ANY_PORT}|null")
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


def pattern_of(text: str) -> str:
    """A pattern in lower case and without a default port, which no browser sends.

    Raises ValueError with half a sentence.
    """
    match = _PATTERN.fullmatch(text.lower())
    if match is None and text != ANY_ORIGIN:
        raise ValueError(
            'is not an origin like "https://chat.example.com", "https://*.example.com", '
            '"http://localhost:*", "app://*" (no path, not even a slash)'
        )
    if match is None:
        return ANY_ORIGIN
    scheme, host, port = match.groups(default="")
    return f"{scheme}://{host}{'' if port == _DEFAULT_PORTS.get(scheme) else port}"


@attrs.frozen
class Origins:
    """The origins that some patterns, as `pattern_of` gives them, allow."""

    patterns: tuple[str, ...] = ()
    _allowed: re.Pattern[str] = attrs.field(init=False, repr=False)

    @_allowed.default
    def _compiled(self) -> re.Pattern[str]:
        return re.compile("|".join(map(_regex, self.patterns)) or r"(?!)")

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def allow(self, origin: str) -> bool:
        """Whether an `Origin` header, as sent, is one of them."""
        origin = origin.lower()
        return bool(_ORIGIN.fullmatch(origin) and self._allowed.fullmatch(origin))

    @property
    def are_everyone(self) -> bool:
        """Whether pages of any web site are among them."""
        return self.allow("https://site.invalid") or self.allow("http://site.invalid")


def _regex(pattern: str) -> str:
    if pattern == ANY_ORIGIN:
        return ".*"
    match = _PATTERN.fullmatch(pattern)
    if match is None:
        raise ValueError(pattern)
    scheme, host, port = match.groups(default="")
    if host == ANY_ORIGIN:
        name, port = _ORIGIN_HOST, port or ":*"
    elif host.startswith("*."):
        name = _LABELS + re.escape(host[2:])
    else:
        name = re.escape(host)
    return f"{re.escape(scheme)}://{name}{_ANY_PORT if port == ':*' else port}"
