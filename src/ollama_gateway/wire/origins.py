"""Match the `Origin` of a browser's page against patterns of pages that may read answers.

A pattern is an origin as browsers write it (`https://chat.example.com`). `*` may stand in three
places only, so a pattern allows no more than it seems to: for the whole host (`app://*`, with any
port), for the labels before a name (`https://*.example.com`, which excludes the name itself), and
for the port (`http://localhost:*`). `*` alone allows every page.
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
    """Return a pattern in lower case, without the default port, which browsers leave out.

    Raises ValueError; its message ends a sentence about the setting.
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
    """The origins that patterns allow; the patterns are as `pattern_of` returns them."""

    patterns: tuple[str, ...] = ()
    _allowed: re.Pattern[str] = attrs.field(init=False, repr=False)

    @_allowed.default
    def _compiled(self) -> re.Pattern[str]:
        return re.compile("|".join(map(_regex, self.patterns)) or r"(?!)")

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def allow(self, origin: str) -> bool:
        """Return whether the patterns allow an `Origin` header, as sent."""
        origin = origin.lower()
        return bool(_ORIGIN.fullmatch(origin) and self._allowed.fullmatch(origin))

    @property
    def are_everyone(self) -> bool:
        """Whether the patterns allow pages of any web site."""
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
