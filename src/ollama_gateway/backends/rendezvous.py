"""Weighted rendezvous: an order of machines for each identity that all gateways find alike.

Each machine draws a number from the identity and its own name, and the highest draw comes first.
So gateways and processes that share nothing agree, also after a restart, and a machine that comes
or goes moves only its own conversations. A machine of weight 2 comes first twice as often as one of
weight 1 (Mosharaf et al., "Weighted Distributed Hash Tables", 2005: the logarithmic method).
"""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import Final

_DRAWS: Final = 2.0**64


def draw(identity: bytes, name: str, weight: float) -> float:
    """Return a machine's draw for an identity; the highest comes first.

    Args:
        identity: at most 64 bytes.
        name: of the machine.
        weight: its share, above 0.

    """
    digest = blake2b(name.encode(), digest_size=8, key=identity).digest()
    share = (int.from_bytes(digest, "big") + 0.5) / _DRAWS
    return -weight / math.log(share)
