"""Who the client is behind proxies: `X-Forwarded-For`, believed of the operator's own only.

Each proxy appends the address it was asked from, so the list is read from its end: what a trusted
proxy wrote is believed, and the first address that is not a trusted proxy's is the client. What
stands left of it is the client's own word (RFC 7239, 8.1). A list that makes no sense where it is
read leaves the address of the connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from ollama_gateway.wire.headers import Headers
from ollama_gateway.wire.networks import IPAddress, Network, address_of, is_in

MAX_PROXIES: Final = 32
"""Trusted addresses in a row; more of them make no sense."""

_WITH_PORT: Final = re.compile(r"\[([^\[\]]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")


def client_of(peer: str, headers: Headers, proxies: Sequence[Network]) -> str:
    """The address of the client; `peer`, the connection's, where nothing better is known.

    Where all of the list are trusted proxies, the first of them has asked.
    """
    address = address_of(peer)
    if address is None or not is_in(address, proxies):
        return str(address or peer)
    client = address
    for count, text in enumerate(_from_the_end(headers)):
        hop = _hop(text)
        if hop is None or count >= MAX_PROXIES:
            return str(address)
        client = hop
        if not is_in(hop, proxies):
            break
    return str(client)


def _from_the_end(headers: Headers) -> Iterator[str]:
    lists = [value for name, value in headers if name.lower() == b"x-forwarded-for"]
    if any(lists):
        yield from reversed(b",".join(lists).decode("ascii", "replace").split(","))


def _hop(text: str) -> IPAddress | None:
    """An address as proxies write it: some add the port (and brackets, where it is IPv6)."""
    text = text.strip()
    match = _WITH_PORT.fullmatch(text)
    return address_of((match[1] or match[2]) if match else text)
