"""Find the client's address behind trusted proxies, from `X-Forwarded-For`.

Each proxy appends the address that asked it, so the list is read from its end. Entries of trusted
proxies are believed, and the first address that is not a trusted proxy's is the client's. Entries
further left come from the client itself (RFC 7239, 8.1). If an entry cannot be read, the address of
the connection counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from ollama_gateway.wire.headers import Headers
from ollama_gateway.wire.networks import IPAddress, Network, address_of, is_in

MAX_PROXIES: Final = 32
"""Trusted addresses in a row; a longer list is not believed."""

_WITH_PORT: Final = re.compile(r"\[([^\[\]]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")


def client_of(peer: str, headers: Headers, proxies: Sequence[Network]) -> str:
    """Return the client's address; `peer`, the connection's, if nothing better is known.

    If the whole list consists of trusted proxies, the first of them is the client.
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
    """Read an address as proxies write it: some add the port, and brackets around IPv6."""
    text = text.strip()
    match = _WITH_PORT.fullmatch(text)
    return address_of((match[1] or match[2]) if match else text)
