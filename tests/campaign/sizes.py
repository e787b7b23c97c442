"""The size of the campaign: its tests run small among all others, and large with `--full`.

`tox -e campaign` runs them large, and prints the figures that they measure.
"""

from __future__ import annotations

from typing import Final

import attrs


@attrs.frozen
class Sizes:
    """The sizes of all tests of the campaign."""

    requests: int
    """Requests against one budget."""
    at_once: int
    """Requests made at once."""
    patience: float
    """Seconds for which a refused request is retried."""
    admitted: int
    """Requests that the budget has room for."""
    clients: int
    """Clients that want one of 4 places."""
    burst: int
    """Requests that are the first of a key, all at once."""
    streams: int
    """Streams that are open when their gateway is killed."""
    waits_for_leases: bool
    """Whether leases end by the real clock; else the store's clock is set ahead."""
    under_load: int
    """Requests that the budget has room for while Redis is killed."""
    is_timed: bool
    """Whether measured times are checked, and not only reported."""
    hedged: int
    """Races that a hedge wins."""
    mixed: int
    """Races of all kinds, after which nothing may remain; most have two attempts."""
    leaving: int
    """Clients that leave in each of the windows."""
    outage: float
    """Seconds for which all backends fail."""
    kills: int
    """Times that a gateway is killed, each at another moment."""
    killed_streams: int
    """Streams that are open at that moment."""
    away: float
    """Seconds for which PostgreSQL is away."""
    rate: int
    """Requests a second meanwhile."""
    unwritten: int
    """Requests made while the disk is full; if large, more than may wait in memory."""
    trail: int
    """Audit records that are verified."""
    blob: int
    """MiB of a blob that is uploaded."""
    body: int
    """MiB of a chat with pictures."""
    canaries: int
    """Requests at a backend that sends too much."""
    reloads: int
    """Reloads under streams; one in ten has a fault."""
    processes: int
    """Processes of a gateway that is reloaded."""


SMALL: Final = Sizes(
    requests=150,
    at_once=64,
    patience=1.5,
    admitted=15,
    clients=40,
    burst=30,
    streams=20,
    waits_for_leases=False,
    under_load=60,
    is_timed=False,
    hedged=30,
    mixed=200,
    leaving=5,
    outage=1.0,
    kills=2,
    killed_streams=30,
    away=3.0,
    rate=20,
    unwritten=40,
    trail=2000,
    blob=64,
    body=12,
    canaries=100,
    reloads=20,
    processes=2,
)
FULL: Final = Sizes(
    requests=1000,
    at_once=64,
    patience=10.0,
    admitted=40,
    clients=200,
    burst=100,
    streams=200,
    waits_for_leases=True,
    under_load=600,
    is_timed=True,
    hedged=1000,
    mixed=14_000,
    leaving=100,
    outage=10.0,
    kills=20,
    killed_streams=500,
    away=60.0,
    rate=100,
    unwritten=10_200,
    trail=100_000,
    blob=3 * 1024,
    body=60,
    canaries=5000,
    reloads=100,
    processes=4,
)
