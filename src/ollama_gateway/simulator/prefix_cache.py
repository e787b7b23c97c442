"""The prefix cache of a runner: the contents of its slots, and of the host's memory.

A slot keeps the last prompt and its answer, and reads only the rest of a prompt that begins alike.
As in llama-server, a request gets the idle slot that shares most with it, if that is a tenth of the
prompt; else the one that was used least recently. If less than half of a slot's content can stay,
the content moves to the host cache, and the slot takes from there the one that shares more. The
host cache has room for so many tokens, and drops the oldest content first.
"""

from __future__ import annotations

import attrs

from ollama_gateway.simulator.prompts import PER_TOKEN, Prompt, tokens_of

ALIKE = 0.1
"""The share of a prompt that a slot must hold to be chosen for it."""
KEPT = 0.5
"""The share of a slot's content below which the content goes to the host cache."""


@attrs.frozen
class Held:
    """The content of a slot.

    Args:
        texts: of a prompt and its answer.
        tokens: how many of their tokens were read or written, from the first on.

    """

    texts: tuple[str, ...] = ()
    tokens: int = 0

    def shared(self, prompt: Prompt) -> int:
        """Count the tokens with which a prompt begins alike; its last one is always read."""
        found = prompt.template
        for own, other in zip(self.texts, prompt.texts, strict=False):  # the shorter one counts
            if own != other:
                found += _alike(own, other) // PER_TOKEN
                break
            found += tokens_of(own)
        return max(0, min(found, self.tokens, prompt.tokens - 1))

    def begins(self, other: Held) -> bool:
        """Return whether the other holds all of this and goes on."""
        return self.tokens <= other.tokens and other.texts[: len(self.texts)] == self.texts


@attrs.define(eq=False)
class Slot:
    """Serves one request at a time; `used` counts up over all slots."""

    held: Held = Held()
    used: int = 0
    is_busy: bool = False


@attrs.define(eq=False)
class PrefixCache:
    """The slots of one runner and their host cache.

    Args:
        slots: one for each request that is served at once.

    """

    slots: list[Slot] = attrs.field(factory=list)
    _left: list[Held] = attrs.field(factory=list)
    """The host cache, oldest first."""
    _uses: int = 0

    def take(self, prompt: Prompt, room: int) -> tuple[Slot, int]:
        """Return the slot for a prompt, now busy, and the tokens that need not be read.

        If no slot is idle, the server has no limit, and there is one more.

        Args:
            prompt: the request's.
            room: tokens of the host cache.

        """
        slot = self._chosen(prompt)
        self._uses += 1
        slot.used, slot.is_busy = self._uses, True
        shared = slot.held.shared(prompt)
        if shared < KEPT * slot.held.tokens or not slot.held.tokens:
            self._leave(slot.held, room)
            shared = self._fetch(slot, prompt, shared)
        return slot, shared

    def _chosen(self, prompt: Prompt) -> Slot:
        idle = [slot for slot in self.slots if not slot.is_busy]
        if not idle:
            self.slots.append(Slot())
            return self.slots[-1]
        best = max(idle, key=lambda slot: slot.held.shared(prompt))
        if best.held.shared(prompt) > ALIKE * prompt.tokens:
            return best
        return min(idle, key=lambda slot: slot.used)

    def _leave(self, held: Held, room: int) -> None:
        if not held.tokens:
            return
        self._left = [one for one in self._left if not one.begins(held)]
        self._left.append(held)
        while sum(one.tokens for one in self._left) > room:
            del self._left[0]

    def _fetch(self, slot: Slot, prompt: Prompt, shared: int) -> int:
        """Give the slot what shares most; return how many tokens that are."""
        best = max(self._left, key=lambda held: held.shared(prompt), default=Held())
        if best.shared(prompt) <= shared:
            return shared
        self._left.remove(best)
        slot.held = best
        return best.shared(prompt)


def _alike(one: str, other: str) -> int:
    """Count the characters with which two texts begin alike, by halves: they can be long."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
