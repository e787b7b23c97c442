"""Weighted rendezvous with bounds: an order of backends that all gateways find alike.

Each backend draws a number from an identity and its own name, and the highest draw comes first. So
gateways and processes that share nothing agree, also after a restart, and a backend that comes or
goes moves only its own conversations. A backend of weight 2 comes first twice as often as one of
weight 1.

A backend may have at most 1.25 times its share of the conversations, plus one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import attrs

from ollama_gateway.backends.evaluation import Evaluation

BOUND: Final = 1.25
"""Conversations of a backend, as a multiple of its share (Mirrokni, Thorup and Zadimoghaddam,
"Consistent Hashing with Bounded Loads", 2016)."""

_DRAWS: Final = 2.0**64


def draw(identity: bytes, name: str, weight: float) -> float:
    """Return a backend's draw for an identity; the highest comes first.

    Args:
        identity: at most 64 bytes.
        name: of the backend.
        weight: its share, above 0.

    """
    digest = blake2b(name.encode(), digest_size=8, key=identity).digest()
    share = (int.from_bytes(digest, "big") + 0.5) / _DRAWS
    return -weight / math.log(share)


@attrs.frozen
class Share:
    """One backend's share of the conversations of its tier."""

    evaluation: Evaluation
    weight: int
    count: int
    """Its conversations, if it gets one more."""
    fair: float
    """Its part of all conversations, by its weight."""

    @property
    def is_allowed(self) -> bool:
        """Whether it may get one more."""
        return self.count <= BOUND * self.fair + 1

    @property
    def is_fair(self) -> bool:
        """Whether it would then still have no more than its part, and one."""
        return self.count <= self.fair + 1


def shares_of(counted: Sequence[tuple[Evaluation, int]]) -> list[Share]:
    """Return the shares of the backends of a tier, each given with its conversations.

    The weights are the slots where all have some. They come from the settings, and not from
    measurements, so that all gateways use the same.
    """
    has_slots = all(evaluation.backend.slots for evaluation, _ in counted)
    weights = [evaluation.backend.slots if has_slots else 1 for evaluation, _ in counted]
    each = (sum(count for _, count in counted) + 1) / max(sum(weights), 1)
    return [
        Share(evaluation, weight, count + 1, each * weight)
        for (evaluation, count), weight in zip(counted, weights, strict=True)
    ]
