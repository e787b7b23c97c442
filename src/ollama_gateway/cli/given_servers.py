"""Read the servers that `gatewayctl init` is given, as people write them.

A server is `URL`, `host`, `host:port`, or any of them after `name=`. Without a scheme it is `http`,
and `http` without a port means Ollama's own, 11434; `https` keeps its usual one, since only a proxy
speaks it for Ollama. No message repeats what may be a password.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import SplitResult, urlsplit

import attrs

from ollama_gateway.settings.addresses import ListenAddress, is_name
from ollama_gateway.settings.units import discreet

OLLAMA_PORT: Final = 11434
_API_PATHS: Final = {"api", "v1"}
_NAMED: Final = re.compile(r"(?P<name>[^=/:\[\]]*)=(?P<url>.*)", re.DOTALL)


@attrs.frozen
class GivenServer:
    """One server, as the settings will have it."""

    name: str
    url: str
    """With a scheme and a port; checked further by the settings."""
    lacked_port: bool = False
    """Whether Ollama's port was filled in."""


def read_servers(arguments: Sequence[str]) -> tuple[list[GivenServer], list[str]]:
    """Return the servers, and a line for each problem of an argument."""
    named = [_NAMED.fullmatch(argument) for argument in arguments]
    taken = {match["name"] for match in named if match}
    numbered = (name for n in range(1, 10**6) if (name := f"ollama-{n}") not in taken)
    servers: list[GivenServer] = []
    problems: list[str] = []
    for argument, match in zip(arguments, named, strict=True):
        try:
            name = _name(match["name"]) if match else next(numbered)
            server = _server(name, match["url"] if match else argument)
            _refuse_second(server, servers)
            servers.append(server)
        except ValueError as error:
            problems.append(f"{discreet(argument)}: {error}")
    return servers, problems


def is_remote(url: str) -> bool:
    """Return True if the server runs on another machine, as far as its host says."""
    return not ListenAddress(urlsplit(url).hostname or "", 0).is_loopback


def _name(text: str) -> str:
    if not is_name(text):
        raise ValueError("the name before `=` must be 1 to 64 of the characters A-Z a-z 0-9 . _ -")
    return text


def _server(name: str, text: str) -> GivenServer:
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its message repeats the URL
        raise ValueError("is not a URL: the host or the port is wrong") from None
    if parts.scheme not in {"http", "https"}:
        raise ValueError("Ollama speaks http:// (or https:// behind a proxy), nothing else")
    segments = [segment for segment in parts.path.split("/") if segment]
    if segments and not _API_PATHS.isdisjoint({segments[0], segments[-1]}):
        raise ValueError(f"leave out {parts.path}: the gateway adds the paths of the API itself")
    if port is not None or parts.scheme == "https" or not parts.hostname:
        return GivenServer(name, url)
    with_port = parts._replace(netloc=f"{parts.netloc.rstrip(':')}:{OLLAMA_PORT}")
    return GivenServer(name, with_port.geturl(), lacked_port=True)


def _refuse_second(server: GivenServer, servers: Sequence[GivenServer]) -> None:
    """Raise ValueError for a server or a name that was given before."""
    for other in servers:
        if _address(other) == _address(server):
            raise ValueError(f"is the same server as {other.name}, which was given before")
        if other.name == server.name:
            raise ValueError(f"another server is already named {other.name}")


def _address(server: GivenServer) -> tuple[str, str, int | None, str]:
    parts: SplitResult = urlsplit(server.url)
    host = parts.hostname or ""
    return parts.scheme, _plain(host), parts.port, parts.path.rstrip("/")


def _plain(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.rstrip(".")
