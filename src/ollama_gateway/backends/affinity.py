"""Affinity: which backend a conversation should go to, so that its prompt is in the prefix cache.

A conversation is bound to the replica that answered it last (`bindings.py`). Its next request goes

1. to that replica, while the line there costs less seconds than reading the prompt elsewhere. If it
   has no room, the request may wait for it, at most for the seconds that this would save;
2. else to another one, in the ordinary order (`evaluation.py`), and the conversation is bound anew.

A new conversation goes to the first backend in rendezvous order (`rendezvous.py`), of those that
rank alike and could begin at once, and whose bindings are at most 1.25 times the mean plus one.
Load decides only by excluding. So gateways and processes that share nothing agree, also after a
restart. A backend that has read the same system text and tools comes first.

An identity that has shown three different heads names more than one conversation, such as an agent
and its helpers. Each head is then a conversation of its own.

Nothing here waits; `now` is in seconds on the event loop's clock.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import attrs

from ollama_gateway.backends.bindings import Binding, Bindings
from ollama_gateway.backends.evaluation import Evaluation, RouteRequest, alike, evaluate
from ollama_gateway.backends.placement import NOWHERE, Choice, Placement
from ollama_gateway.backends.rendezvous import Share, draw, shares_of
from ollama_gateway.wire.identity import ConversationIdentity

if TYPE_CHECKING:
    from ollama_gateway.backends.backend import Backend
    from ollama_gateway.backends.backends import Backends

MAX_CONVERSATIONS: Final = 85_000
MAX_HEADS: Final = 10_000
MAX_ANSWERS: Final = 5_000
"""Together 100,000 identities, in at most 32 MiB."""
HEAD_BYTES: Final = 8
SEVERAL_HEADS: Final = 3
"""Different heads from which on an identity names more than one conversation."""
FURTHER: Final = 16
"""Conversations beyond the known capacity of a cache that are counted, to see if it is larger."""
YOUNG: Final = 2
"""A conversation is young until its prompt is so many times as long as its head."""


@attrs.define(eq=False)
class Affinity:
    """The conversations of one process, and their backends."""

    idle: float = 900.0
    """Seconds after which an unused binding is forgotten, the setting `affinity.idle`."""
    capacity: int = 8
    """Conversations that a prefix cache keeps, where no count tells: `affinity.capacity`."""
    conversations: Bindings = attrs.field(init=False, repr=False)
    heads: Bindings = attrs.field(init=False, repr=False)
    """Which replicas have read the system text and tools that conversations begin with."""
    _answers: dict[bytes, bytes] = attrs.field(factory=dict, init=False, repr=False)
    """By the ids of relayed answers, the identities of their conversations."""

    def __attrs_post_init__(self) -> None:
        self.conversations = Bindings(self.idle, MAX_CONVERSATIONS)
        self.heads = Bindings(self.idle, MAX_HEADS)

    def become(self, idle: float, capacity: int) -> None:
        """Use these settings from now on."""
        self.capacity = capacity
        self.idle = self.conversations.idle = self.heads.idle = idle

    def choose(self, route: RouteRequest, backends: Backends, now: float) -> Choice:
        """Choose a backend for a request that has not been sent anywhere yet."""
        conversation = route.conversation
        if conversation is None or route.only is not None or route.model.cloud:
            return NOWHERE
        identity, shared = self._identities(route, conversation, now)
        own = self.conversations.get(identity, now)
        if own is not None and not conversation.is_background:
            choice = self._keep(Choice(identity, shared, own), own, route, backends, now)
            if choice is not None:
                return choice
        admitted = [e for e in evaluate(route, backends, now) if e.is_admitted]
        ours = next((e for e in admitted if own is not None and e.backend is own.backend), None)
        if conversation.is_background:
            return Choice(last=_spared(ours, admitted))
        choice = Choice(identity, shared, own)
        if own is None or ours is None:
            return attrs.evolve(choice, first=self._place(route, choice, admitted, now))
        return self._stay(choice, own, ours, admitted, now)

    def _keep(
        self, choice: Choice, own: Binding, route: RouteRequest, backends: Backends, now: float
    ) -> Choice | None:
        """Return the choice of the own backend if it could begin at once: none can be better."""
        best = next((b for b in backends.all if route.can_go_to(b)), None)
        if best is None or best.priority != own.backend.priority:
            return None
        if own.backend not in backends.all or not route.can_go_to(own.backend):
            return None
        ours = Evaluation.of(route, own.backend, 0, now)
        if not (ours.is_admitted and ours.has_room and ours.is_warm) or ours.begins_in(now):
            return None
        found = self._found(choice, own, ours)
        saves = ours.replica.prefill.seconds(found.cached)
        return attrs.evolve(found, first=own.backend, until=now + saves)

    def _found(self, choice: Choice, own: Binding, ours: Evaluation) -> Choice:
        """Return the choice with the tokens that should be in the cache of the own replica."""
        capacity = ours.replica.prefill.capacity(self.capacity)
        others = self.conversations.others_since(choice.identity or b"", capacity + FURTHER)
        left_there = own.tokens if ours.is_warm and ours.replica is own.replica else 0
        cached = left_there if others < capacity else 0
        return attrs.evolve(choice, others=others, left_there=left_there, cached=cached)

    def placement(
        self, choice: Choice, evaluation: Evaluation, route: RouteRequest, now: float
    ) -> Placement:
        """Return what an attempt at a backend is expected to find there."""
        is_own = choice.own is not None and choice.own.replica is evaluation.replica
        return Placement(
            self,
            choice,
            evaluation.backend,
            evaluation.replica,
            route,
            cached=choice.cached if is_own else 0,
            left_there=choice.left_there if is_own else 0,
            wait=evaluation.begins_in(now),
        )

    def bind(self, placement: Placement, now: float) -> None:
        """Bind a conversation to the replica that has begun to answer it."""
        choice, route = placement.choice, placement.route
        if choice.identity is None or route.conversation is None:
            return
        before, head = choice.own, b""
        if route.conversation.source != "content":
            head = route.conversation.head[:HEAD_BYTES]
        heads = before.heads if before is not None else b""
        if head not in _parts(heads) and len(heads) < SEVERAL_HEADS * HEAD_BYTES:
            heads += head
        binding = Binding(
            placement.backend, placement.replica, route.key_id, placement.tokens, heads
        )
        self.conversations.bind(choice.identity, binding, now)
        if placement.answer_id is not None:
            self._remember(choice.identity, route.key_id, placement.answer_id)
        if choice.shared is not None:
            shared = _at(choice.shared, placement.backend)
            known = self.heads.get(shared, now)
            tokens = min(placement.tokens, known.tokens) if known else placement.tokens
            self.heads.bind(shared, attrs.evolve(binding, tokens=tokens, heads=b""), now)

    def _remember(self, identity: bytes, key_id: str, answer_id: str) -> None:
        if len(self._answers) >= MAX_ANSWERS:
            del self._answers[next(iter(self._answers))]
        self._answers[_answer_key(key_id, answer_id)] = identity

    def _identities(
        self, route: RouteRequest, conversation: ConversationIdentity, now: float
    ) -> tuple[bytes, bytes | None]:
        """Return the identity of a conversation, and one that it shares with others, if any."""
        # An alias may be answered by several models, each of which has a cache of its own.
        identity = _digest(conversation.id, route.model.key.encode())
        coarse = conversation.coarse
        if conversation.previous_response_id is not None:
            answered = _answer_key(route.key_id, conversation.previous_response_id)
            identity = self._answers.get(answered, identity)
        known = self.conversations.get(identity, now)
        if known is None or len(known.heads) < SEVERAL_HEADS * HEAD_BYTES:
            return identity, coarse
        return _digest(identity, conversation.head), identity

    def _stay(
        self, choice: Choice, own: Binding, ours: Evaluation, admitted: list[Evaluation], now: float
    ) -> Choice:
        """Prefer the conversation's own replica if that costs less seconds than another one."""
        choice = self._found(choice, own, ours)
        others = [e for e in admitted if e is not ours]
        elsewhere = min((_cost(e, choice.cached, now) for e in others), default=math.inf)
        if ours.begins_in(now) > elsewhere:
            return choice
        may_wait = not any(
            e.has_room and e.backend.priority < ours.backend.priority for e in others
        )
        until = now + elsewhere if may_wait else now
        return attrs.evolve(choice, first=ours.backend, until=until)

    def _place(
        self, route: RouteRequest, choice: Choice, admitted: list[Evaluation], now: float
    ) -> Backend | None:
        """Return the backend for a conversation without a binding; None if it is all the same.

        The conversation may be bound by another gateway, or from before a restart. Then it is most
        likely at the first backend in its order, so its line there counts as for a bound one.
        """
        tier, able = alike(admitted)
        shares = shares_of([(e, self.conversations.count(e.replica)) for e in tier])
        identity = choice.identity or b""

        def order(share: Share) -> tuple[bool, float]:
            at = share.evaluation
            comes_first = share.is_fair and self._has_head(route, choice, at, now)
            return not comes_first, -draw(identity, at.backend.name, share.weight)

        allowed = [share for share in shares if share.is_allowed] or shares
        ordered = [share.evaluation for share in sorted(allowed, key=order)]
        is_all_warm = all(e.is_warm for e in able)  # else one that is worth a load goes first
        first = next((e for e in ordered if e.is_warm), None) if is_all_warm else None
        if first is not None:
            unread = first.replica.prefill.tokens(route.size)
            others = (_cost(e, unread, now) for e in admitted if e is not first)
            if first.begins_in(now) <= min(others, default=math.inf):
                return first.backend
        return next((e.backend for e in ordered if e in able), None)

    def _has_head(self, route: RouteRequest, choice: Choice, at: Evaluation, now: float) -> bool:
        """Return whether most of a new conversation is expected in the cache of a backend."""
        if choice.shared is None:
            return False
        head = self.heads.get(_at(choice.shared, at.backend), now)
        if head is None or head.replica is not at.replica or not at.is_warm:
            return False
        return at.replica.prefill.tokens(route.size) <= YOUNG * head.tokens


def _cost(evaluation: Evaluation, unread: int, now: float) -> float:
    """Return the seconds until an answer could begin, with so many tokens to read."""
    return evaluation.begins_in(now) + evaluation.replica.prefill.seconds(unread)


def _spared(ours: Evaluation | None, admitted: list[Evaluation]) -> Backend | None:
    """Return the backend that a background task leaves to its conversation, if it can."""
    _, best = alike([e for e in admitted if e is not ours])
    is_warm = ours is None or not ours.is_warm or any(e.is_warm for e in best)
    return ours.backend if ours is not None and is_warm else None


def _parts(heads: bytes) -> list[bytes]:
    return [heads[at : at + HEAD_BYTES] for at in range(0, len(heads), HEAD_BYTES)] + [b""]


def _digest(*parts: bytes) -> bytes:
    return blake2b(b"\0".join(parts), digest_size=16).digest()


def _at(shared: bytes, backend: Backend) -> bytes:
    return _digest(shared, backend.name.encode())


def _answer_key(key_id: str, answer_id: str) -> bytes:
    return _digest(b"answer", key_id.encode(), answer_id.encode("utf-8", "replace"))
