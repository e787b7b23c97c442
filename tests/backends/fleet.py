"""Conversations between backends that read 1,000 tokens a second, in virtual time."""

from __future__ import annotations

import trio
import trio.testing

from ollama_gateway.backends.affinity import Affinity
from ollama_gateway.backends.evaluation import RouteRequest
from ollama_gateway.backends.occupancy import Slot
from ollama_gateway.backends.selection import Candidates
from ollama_gateway.wire.identity import ConversationIdentity
from tests.flow.racing import M, Track

Clock = trio.testing.MockClock
TOKENS = 10_000
SIZE = 4 * TOKENS
SPEED = 1000
"""Tokens a second."""


def conversation(number: int, **others: object) -> ConversationIdentity:
    """Return a numbered conversation of which a header tells."""
    name = number.to_bytes(16, "big")
    return ConversationIdentity(**{"id": name, "source": "header", "head": name, **others})  # type: ignore[arg-type]


class Fleet(Track):
    """Backends that read 1,000 tokens a second, and conversations between them."""

    def __init__(self, names: str = "abc", *, tiers: str = "", slots: int = 0) -> None:
        priorities = {name: int(tier) for name, tier in zip(names, tiers or "1" * 9, strict=False)}
        super().__init__(*names, priorities=priorities, slots=slots)
        self.backends.affinity = self.affinity = Affinity()
        for backend in self.backends.all:
            backend.replica_of(M).prefill.reported(1000, 1000 / SPEED)

    def candidates(
        self, talk: ConversationIdentity | None, *, size: int = SIZE, key: str = "k"
    ) -> Candidates:
        """Return the backends for one request of a conversation."""
        return Candidates(self.backends, RouteRequest(M, key, conversation=talk, size=size), 100)

    def take(self, talk: ConversationIdentity | None, *, size: int = SIZE, key: str = "k") -> Slot:
        """Take a slot for a request, which does not have to wait."""
        taken = self.candidates(talk, size=size, key=key).take(Payer(), trio.current_time())
        assert isinstance(taken, Slot)
        return taken

    def turn(self, talk: ConversationIdentity | None, *, size: int = SIZE) -> str:
        """Ask and be answered at once; return which backend answered, and the kind."""
        slot = self.take(talk, size=size)
        answer(slot)
        return f"{slot.backend.name} {slot.affinity}"


def answer(slot: Slot, *, found: int | None = None, tokens: int = TOKENS) -> None:
    """Answer at once, and end."""
    begin(slot)
    assert slot.placement is not None
    slot.placement.reported(tokens, found, None)
    slot.release()


def begin(slot: Slot) -> None:
    """Send the first chunk of an answer."""
    slot.connected()
    slot.answered(trio.current_time(), is_timed=True)


class Payer:
    """Pays for every attempt."""

    def pay(self) -> bool:
        """Pay."""
        return True

    def affordable_at(self) -> float:
        """Return that it can always pay."""
        return 0
