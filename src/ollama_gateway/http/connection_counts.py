"""How many connections each address has: one client must not have all that there are.

Whoever has an IPv6 address has a whole /64 of them (RFC 4291, 2.5.1), which counts as one here. An
IPv4 address in the dress of IPv6 counts as itself. Addresses that stand for many clients, proxies
above all, are exempt; so is the machine itself, whose programs could do worse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from ipaddress import IPv6Address, IPv6Network
from typing import Final

import attrs

from ollama_gateway.wire.networks import Network, address_of, is_in, network_of

LOOPBACK: Final = (network_of("127.0.0.0/8"), network_of("::1"))
SHARE: Final = 4
"""By default an address may have one connection of so many that a listener has."""
_OF_ONE_CLIENT: Final = 64
"""Bits of an IPv6 address that tell one client from another."""


@attrs.define(eq=False)
class ConnectionCounts:
    """The connections of one listener, by where they come from."""

    most: int
    """Connections of one address."""
    exempt: Sequence[Network] = LOOPBACK
    """Whose connections are not counted."""
    _held: Counter[str] = attrs.field(factory=Counter, init=False)

    @classmethod
    def of(cls, all_together: int) -> ConnectionCounts:
        """One of a listener that has so many connections."""
        return cls(max(1, all_together // SHARE))

    def is_full(self, peer: str) -> bool:
        """Whether this address has all that it may have."""
        return self._held[self._place(peer)] >= self.most

    def enter(self, peer: str) -> str:
        """Count a connection; what is returned is for `leave`."""
        place = self._place(peer)
        if place:
            self._held[place] += 1
        return place

    def leave(self, place: str) -> None:
        """It has ended."""
        self._held[place] -= 1
        if self._held[place] <= 0:
            del self._held[place]

    def _place(self, peer: str) -> str:
        """What is counted as one client; empty for what is not counted."""
        address = address_of(peer)
        if not peer or is_in(address, self.exempt):
            return ""
        if isinstance(address, IPv6Address):
            return str(IPv6Network((int(address), _OF_ONE_CLIENT), strict=False))
        return str(address or peer)
