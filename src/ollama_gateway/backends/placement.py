"""Placement: where a conversation's request goes, and what its answer shows.

`Choice` is the decision for a request, made once, when it first looks for a backend. `Placement` is
one attempt: it knows what it should find in the prefix cache, and reports what it found.

A binding halves its tokens each time when they are not found, as where the head of a conversation
changes in each request. So a request does not wait for a cache that will not have its prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import attrs

from ollama_gateway.backends.bindings import Binding
from ollama_gateway.backends.prefill import FOUND_SHARE
from ollama_gateway.backends.replica import Replica

if TYPE_CHECKING:
    from ollama_gateway.backends.affinity import Affinity
    from ollama_gateway.backends.backend import Backend
    from ollama_gateway.backends.backends import Backends
    from ollama_gateway.backends.evaluation import Evaluation, RouteRequest

EARLY: Final = 0.5
LATE: Final = 0.9
"""Times to a first chunk, as shares of the time that it takes to read the whole prompt."""

AffinityKind = Literal["new", "kept", "moved", "none"]
"""A new conversation; one on its own replica, or on another; none."""


@attrs.frozen(eq=False)
class Choice:
    """Where one request should go."""

    identity: bytes | None = None
    """Of its conversation, under which it is bound; None if it is not bound."""
    shared: bytes | None = None
    """An identity that new conversations with the same head share."""
    own: Binding | None = None
    """Its binding; None for a new conversation."""
    first: Backend | None = None
    """The backend to ask first in its tier, if any."""
    until: float = 0.0
    """The request may wait until then for `first`, though others have room."""
    last: Backend | None = None
    """The backend to ask last in its tier, if any."""
    others: int = 0
    """Conversations that have used its own replica since."""
    left_there: int = 0
    """Tokens that it left in the cache of its own replica."""
    cached: int = 0
    """Tokens of these that should still be there."""


NOWHERE: Final = Choice()
"""The choice for a request without a conversation."""


@attrs.define(eq=False)
class Placement:
    """One attempt for a conversation."""

    affinity: Affinity
    choice: Choice
    backend: Backend
    replica: Replica
    route: RouteRequest
    cached: int
    """Tokens of the prompt that should be in this replica's cache."""
    left_there: int
    wait: float
    """Seconds until it could begin, as expected when it was sent."""
    tokens: int = attrs.field(init=False)
    """Of the prompt: an estimate, until the backend reports them."""
    _reads: int = attrs.field(default=0, init=False)
    """Tokens that the replica was expected to read."""
    _writes_since: float | None = attrs.field(default=None, init=False)
    answer_id: str | None = attrs.field(default=None, init=False)
    """By which a later request may continue the answer."""
    is_counted: bool = attrs.field(default=False, init=False)
    """Whether the backend has reported `tokens`, and with them these two, if it does."""
    found: int | None = attrs.field(default=None, init=False)
    """Tokens that were cached."""
    prefill_seconds: float | None = attrs.field(default=None, init=False)
    """Seconds that it took to read the others."""
    first_chunk_seconds: float | None = attrs.field(default=None, init=False)
    """Seconds from sending to the first chunk of a stream."""

    def __attrs_post_init__(self) -> None:
        self.tokens = max(self.replica.prefill.tokens(self.route.size), self.cached)

    @property
    def kind(self) -> AffinityKind:
        """Whether the conversation has kept its replica."""
        if self.choice.identity is None:
            return "none"
        if self.choice.own is None:
            return "new"
        return "kept" if self.choice.own.backend is self.backend else "moved"

    @property
    def expected_seconds(self) -> float:
        """Seconds from sending to the first chunk, as far as they are known."""
        return self.wait + self.replica.prefill.known_seconds(self._reads)

    def began(self, now: float) -> None:
        """Note that the attempt begins."""
        self._reads = self.tokens - self.cached
        self.replica.work.reads(self._reads, now)

    def answered(self, now: float, seconds: float | None) -> None:
        """Note a good chunk, and after how many seconds if it is the first of a stream."""
        self.replica.work.has_read(self._reads, now)
        self.replica.work.writes(now)
        self._writes_since = now
        self.first_chunk_seconds = seconds
        self.affinity.bind(self, now)

    def reported(self, tokens: int, found: int | None, seconds: float | None) -> None:
        """Note what the backend reports of the prompt; a later report replaces an earlier one.

        Args:
            tokens: of the prompt, cached ones included.
            found: how many were cached; None if not reported.
            seconds: that it took to read the others; None if not reported.

        """
        self.is_counted = True
        self.tokens, self.found, self.prefill_seconds = tokens, found, seconds

    def ended(self, now: float) -> None:
        """Note the end of the attempt, and what its answer shows of the replica and its cache."""
        if self._writes_since is None:
            self.replica.work.has_read(self._reads, now)
        else:
            self.replica.work.has_written(self._writes_since, now)
        if self.is_counted:
            self._learn()

    def _learn(self) -> None:
        prefill = self.replica.prefill
        found = self._timed() if self.found is None else self.found
        prefill.counted(self.route.size, self.tokens)
        if found is not None and self.left_there:
            prefill.came_back(self.choice.others, self.left_there, found, self.affinity.capacity)
        if self.prefill_seconds is not None and (self.found is not None or not self.cached):
            prefill.reported(self.tokens - (self.found or 0), self.prefill_seconds)
        elif self.first_chunk_seconds is not None:
            unread = self.tokens - (self.cached if found is None else found)
            prefill.timed(unread, self.first_chunk_seconds)
        self._note_left(found)

    def _timed(self) -> int | None:
        """Return the cached tokens of which the time to the first chunk tells; None if unclear.

        A chunk that comes early was not preceded by reading. One that comes as late as after
        reading everything, from a replica that had nothing else to do, was.
        """
        whole, seconds = self.replica.prefill.known_seconds(self.tokens), self.first_chunk_seconds
        if seconds is None or not whole:
            return None
        if seconds <= EARLY * whole:
            return self.left_there
        return 0 if not self.wait and seconds >= LATE * whole else None

    def _note_left(self, found: int | None) -> None:
        """Note the tokens that are in the cache now, if the conversation is still bound here."""
        identity = self.choice.identity
        bound = self.affinity.conversations.peek(identity) if identity else None
        if bound is None or bound.replica is not self.replica:
            return
        was_found = found is None or found >= FOUND_SHARE * self.cached
        bound.tokens = self.tokens if was_found else max(self.cached // 2, 1)


def choose(route: RouteRequest, backends: Backends, now: float) -> Choice:
    """Choose where a request should go, for the sake of its conversation."""
    affinity = backends.affinity
    return affinity.choose(route, backends, now) if affinity is not None else NOWHERE


def placed(
    choice: Choice, route: RouteRequest, backends: Backends, evaluation: Evaluation, now: float
) -> Placement | None:
    """Return what an attempt should find in the prefix cache; None without affinity."""
    if backends.affinity is None or route.is_slotless:
        return None
    return backends.affinity.placement(choice, evaluation, route, now)
