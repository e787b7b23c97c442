"""Count wrong admin tokens by address, so that none is guessed.

A client with an IPv6 address has a whole /64 of them, which count as one address. Loopback is
counted too: other users of the machine are there.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from ipaddress import IPv6Address, IPv6Network
from typing import Final

import attrs

from ollama_gateway import clock
from ollama_gateway.log import get_logger
from ollama_gateway.wire.networks import address_of

MOST_ATTEMPTS: Final = 10
"""Wrong tokens of one address in `WINDOW`."""
WINDOW: Final = 60.0
"""Seconds."""
MOST_ADDRESSES: Final = 4096
"""Addresses that are held; the one whose last wrong token is longest ago is forgotten first."""
_OF_ONE_CLIENT: Final = 64
"""Leading bits of an IPv6 address that identify one client."""

log = get_logger("admin")


@attrs.define(eq=False)
class FailedAttempts:
    """The times of the last wrong tokens, by address; times are of `clock.now()`."""

    _times: OrderedDict[str, deque[float]] = attrs.field(factory=OrderedDict, init=False)

    def seconds_left(self, client: str) -> float:
        """Return for how many seconds an address may not try another token; 0 if it may."""
        times = self._times.get(_address(client))
        if times is None or len(times) < MOST_ATTEMPTS:
            return 0.0
        return max(0.0, times[0] + WINDOW - clock.now())

    def note(self, client: str) -> None:
        """Count an attempt, before it is known whether it fails."""
        address = _address(client)
        times = self._times.setdefault(address, deque(maxlen=MOST_ATTEMPTS))
        self._times.move_to_end(address)
        times.append(clock.now())
        if len(self._times) > MOST_ADDRESSES:
            self._times.popitem(last=False)

    def forgive(self, client: str) -> None:
        """Take the last attempt back: the token was valid, or could not be checked."""
        address = _address(client)
        if times := self._times.get(address):
            times.pop()
            if not times:
                del self._times[address]

    def failed(self, client: str) -> None:
        """Log that an address has used up its attempts, once for each time that it does."""
        if self.seconds_left(client):
            log.warning("wrong admin tokens", client=_address(client), attempts=MOST_ATTEMPTS)


def _address(client: str) -> str:
    address = address_of(client)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), _OF_ONE_CLIENT), strict=False))
    return str(address or client)
