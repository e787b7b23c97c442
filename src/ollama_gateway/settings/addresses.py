"""Read addresses, networks, origins, URLs, names and paths.

The readers are strict, because other libraries use the values much later and would fail where
no operator expects it: `urlsplit` drops tabs and newlines silently, a path with a NUL fails at its
first use. No message repeats a URL, since the usual mistake in one is a password.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import SplitResult, urlsplit

import attrs

from ollama_gateway.settings.units import shown, words
from ollama_gateway.wire.hosts import name_of
from ollama_gateway.wire.networks import Network, network_of
from ollama_gateway.wire.origins import pattern_of

T = TypeVar("T")

LABEL: Final = 63
"""Most characters between two dots of a host (RFC 1035, 2.3.4); Python looks up no more."""

IPV4_PARTS: Final = 4
MAX_URL: Final = 4096
"""Characters of a backend's URL; the client library takes 65,536 with a request's path."""

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?")
_BIND = re.compile(r"(?:\[(?P<v6>[^\[\]]+)\]|(?P<host>[^:\[\]]+)):(?P<port>[0-9]{1,5})")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_URL = re.compile(r"[!#-;=?-\[\]_a-z~]*")


@attrs.frozen
class ListenAddress:
    """The address of a listener."""

    host: str
    """A name or an IP address, without brackets."""
    port: int
    """0: the system chooses one."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """True if only this machine can reach it; of names, only `localhost` counts."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"


def address(value: object) -> ListenAddress:
    """Read `"host:port"`, an IPv6 address in brackets."""
    match = _BIND.fullmatch(value) if isinstance(value, str) else None
    host = match and (match["v6"] or match["host"])
    if match is None or not host or not _is_host(host, v6=bool(match["v6"])):
        raise ValueError(f'{shown(value)} is not an address like "127.0.0.1:11435", "[::1]:11435"')
    if int(match["port"]) > 65535:  # noqa: PLR2004 - the largest port
        raise ValueError(f"{match['port']} is not a port from 0 to 65535")
    return ListenAddress(host, int(match["port"]))


def _is_host(host: str, *, v6: bool) -> bool:
    if not v6:
        labels = host.split(".")
        if len(labels) == IPV4_PARTS and all(label.isdecimal() for label in labels):
            return _is_ipv4(host)
        return _HOST.fullmatch(host) is not None and all(0 < len(x) <= LABEL for x in labels)
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def _is_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def url(value: object) -> str:
    """Return the base URL of a backend, without a trailing slash; a path is kept as a prefix."""
    if not isinstance(value, str) or not value:
        raise ValueError('must be a URL like "http://10.0.0.5:11434"')
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        # From None: the message of urlsplit repeats the URL.
        raise ValueError("is not a URL: the host or the port (1 to 65535) is wrong") from None
    if fault := _fault_of(value, parts, port):
        raise ValueError(fault)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


def _fault_of(value: str, parts: SplitResult, port: int | None) -> str | None:
    """Return the first fault of a backend's URL, or None."""
    host = parts.hostname or ""
    faults = {
        "must begin with http:// or https://": parts.scheme not in ("http", "https")
        or "://" not in value,
        "must not hold credentials: use auth_token or headers": "@" in value,
        "must not have a query or a fragment": "?" in value or "#" in value,
        "holds a character that no URL may hold": not _URL.fullmatch(value),
        "has no host": not host,
        "has a host that is neither a name nor an IP address": not _is_host(host, v6=":" in host),
        "has port 0: ports are from 1 to 65535": port == 0,
        f"is longer than {MAX_URL} characters": len(value) > MAX_URL,
    }
    return next((fault for fault, found in faults.items() if found), None)


def is_name(text: str) -> bool:
    """Return True if a backend may have this name."""
    return _NAME.fullmatch(text) is not None


def name(value: object) -> str:
    """Read a backend's name, which appears in logs, metrics and headers."""
    if not isinstance(value, str) or not is_name(value):
        # Not repeated: if `name=url` lacks its name, a whole URL stands here.
        raise ValueError("must be 1 to 64 of the characters A-Z a-z 0-9 . _ -")
    return value


def networks(value: object) -> tuple[Network, ...]:
    """Read a list of networks in CIDR notation, or of single addresses."""
    return _each(value, network_of)


def hosts(value: object) -> tuple[str, ...]:
    """Read a list of names or addresses without ports."""
    return _each(value, _host)


def _host(text: str) -> str:
    name = name_of(text)
    if name is None:
        raise ValueError('is not a name like "gateway.example.com" or an address, without a port')
    return name


def origins(value: object) -> tuple[str, ...]:
    """Read a list of patterns of origins."""
    return _each(value, pattern_of)


def _each(value: object, read: Callable[[str], T]) -> tuple[T, ...]:
    found = []
    for text in words(value):
        try:
            found.append(read(text))
        except ValueError as error:
            raise ValueError(f"{shown(text)} {error}") from None
    return tuple(found)


def path(value: object) -> Path:
    """Read a path and expand `~`."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"{shown(value)} is not a path")
    if "://" in value:
        raise ValueError("must be a path, not a URL")  # not repeated: it may hold a password
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError(f"{shown(value)}: no such home directory") from None


def path_or_none(value: object) -> Path | None:
    """Read a path; None for the empty string."""
    return None if value == "" else path(value)


def show_path(value: Path | None) -> str:
    """Return a path as a settings file has it: `""` for None."""
    return "" if value is None else str(value)
