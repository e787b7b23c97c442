"""IP addresses and networks as settings, sockets and headers write them.

An IPv4 address mapped into IPv6 (`::ffff:10.0.0.1`, RFC 4291 2.5.5.2), which a dual-stack socket
reports, becomes the IPv4 address here, so each network has one spelling.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

IPAddress = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MAPPED: Final = IPv6Network("::ffff:0:0/96")


MAX_ADDRESS_LENGTH: Final = 64
"""Characters of an address: IPv6 takes 45, and an interface after `%` takes 16."""


def address_of(text: str) -> IPAddress | None:
    """Parse an address; None if the text is none."""
    return _address_of(text) if len(text) <= MAX_ADDRESS_LENGTH else None


@lru_cache(maxsize=1024)  # most requests come from the same few addresses
def _address_of(text: str) -> IPAddress | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def network_of(text: str) -> Network:
    """Parse a network in CIDR notation, or a single address.

    Raises ValueError; its message ends a sentence about the setting.
    """
    try:
        found = ip_network(text)
    except ValueError:
        raise ValueError(_message_for(text)) from None
    if isinstance(found, IPv6Network) and found.subnet_of(_MAPPED):
        raise ValueError("is an IPv4 network written as IPv6; write it as IPv4")
    return found


def _message_for(text: str) -> str:
    try:
        meant = ip_network(text, strict=False)
    except ValueError:
        return 'is not a network like "10.0.0.0/8", "fd00::/8"'
    return f'has bits set behind its prefix; "{meant}" is the network it lies in'


def is_in(address: IPAddress | None, networks: Iterable[Network]) -> bool:
    """Return whether one of the networks holds the address; none holds None."""
    return address is not None and any(address in network for network in networks)
