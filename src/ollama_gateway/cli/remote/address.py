"""The address of an admin listener, as the settings, the command line or a context give it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs

from ollama_gateway.cli.reaching import address_of
from ollama_gateway.printable import printable
from ollama_gateway.settings.addresses import ListenAddress, url

if TYPE_CHECKING:
    from ollama_gateway.settings import ServerSettings

MAX_TOKEN_BYTES: Final = 4096
PORTS: Final = {"http": 80, "https": 443}


class WrongChoice(Exception):
    """The command line or a context does not name a gateway; the message is one printable line."""


@attrs.frozen
class AdminAddress:
    """Where an admin listener is asked, and with which token."""

    host: str
    port: int
    shown: str
    """The address for people."""
    token: str | None = attrs.field(default=None, repr=False)
    is_tls: bool = False
    ca_file: Path | None = None
    """The certificates of the authorities to trust, instead of the system's."""

    @classmethod
    def of_settings(cls, server: ServerSettings) -> AdminAddress:
        """Return the address of the gateway of these settings, on this machine."""
        host, port = address_of(server.admin_bind)
        token = server.admin_token.reveal() if server.admin_token else None
        return cls(host, port, str(server.admin_bind), token)

    @classmethod
    def of_url(cls, text: str, token_file: Path | None, ca_file: Path | None) -> AdminAddress:
        """Return the address of a URL; raises WrongChoice.

        A token is not sent in plain text to another machine: who reads it on the way may do
        everything, for as long as it is valid.
        """
        base = base_url(text)
        parts = urlsplit(base)
        host, is_tls = parts.hostname or "", parts.scheme == "https"
        if token_file is not None and not is_tls and not ListenAddress(host, 0).is_loopback:
            raise WrongChoice(
                f"{base}: the token would cross the network in plain text: use https://,"
                " or an SSH tunnel to a port of localhost"
            )
        if ca_file is not None and not is_tls:
            raise WrongChoice(f"{base}: --ca-file is for https://")
        token = read_token(token_file) if token_file is not None else None
        port = parts.port or PORTS[parts.scheme]
        return cls(host, port, base, token, is_tls, ca_file)


def base_url(text: str) -> str:
    """Return the URL of an admin listener in one spelling; raises WrongChoice."""
    if "@" in text:
        raise WrongChoice("--server must not hold credentials: use --token-file")
    try:
        base = url(text)
    except ValueError as error:
        raise WrongChoice(f"--server {error}") from None
    if urlsplit(base).path:
        raise WrongChoice("--server must not have a path: https://gateway.example.com:11436")
    return base


def read_token(path: Path) -> str:
    """Return the token in a file of one line; raises WrongChoice."""
    try:
        # O_NONBLOCK: opening a pipe without a writer would hang
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise WrongChoice(f"{printable(str(path))}: not a file")
            content = file.read(MAX_TOKEN_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "cannot be read"
        raise WrongChoice(f"{printable(str(path))}: {why.lower()}") from None
    if len(content) > MAX_TOKEN_BYTES:
        raise WrongChoice(f"{printable(str(path))}: too large for a token")
    token = content.strip()
    if not token or not all(0x21 <= byte <= 0x7E for byte in token):  # noqa: PLR2004 - visible ASCII
        raise WrongChoice(f"{printable(str(path))}: holds no token, which is one word")
    return token.decode()
