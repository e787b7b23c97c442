"""Count the connections of each address, so that one client cannot take all of them.

A client with an IPv6 address has a whole /64 of them (RFC 4291, 2.5.1), which counts as one address
here. An IPv4-mapped IPv6 address counts as the IPv4 address. Addresses that stand for many clients,
proxies above all, are exempt; so is loopback, since local programs could do worse.
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
"""By default an address may have one in so many of a listener's connections."""
_OF_ONE_CLIENT: Final = 64
"""Leading bits of an IPv6 address that identify one client."""


@attrs.define(eq=False)
class ConnectionCounts:
    """The connections of one listener, counted by client address."""

    limit: int
    """Connections that one address may have."""
    exempt: Sequence[Network] = LOOPBACK
    """Networks whose connections are not counted."""
    _counts: Counter[str] = attrs.field(factory=Counter, init=False)

    @classmethod
    def of(cls, total: int) -> ConnectionCounts:
        """Return the default counts of a listener that may have `total` connections."""
        return cls(max(1, total // SHARE))

    def is_full(self, peer: str) -> bool:
        """Return True if this address has as many connections as it may have."""
        return self._counts[self._client(peer)] >= self.limit

    def enter(self, peer: str) -> str:
        """Count a connection; return the client to pass to `leave`."""
        client = self._client(peer)
        if client:
            self._counts[client] += 1
        return client

    def leave(self, client: str) -> None:
        """Count a connection of this client as ended."""
        self._counts[client] -= 1
        if self._counts[client] <= 0:
            del self._counts[client]

    def _client(self, peer: str) -> str:
        """Return the address or network that counts as one client; empty if it is not counted."""
        address = address_of(peer)
        if not peer or is_in(address, self.exempt):
            return ""
        if isinstance(address, IPv6Address):
            return str(IPv6Network((int(address), _OF_ONE_CLIENT), strict=False))
        return str(address or peer)
