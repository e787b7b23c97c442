"""Evaluation: the backends as they are now for one request, and their order.

Backends whose breakers admit an attempt come first, by tier (`priority`). Where all backends of a
tier have `slots`, warm ones come before cold ones, and then the least busy for its slots. Where one
of them has none, a learned capacity stands in for it, and these come in turn:

1. warm backends below their capacity, the least busy first;
2. cold backends that are worth a load. One request at a time goes to a backend where the load
   evicts no model in use, however long it takes. Where it may evict one, and for further requests,
   the load must take less time than the shortest line;
3. warm backends at their capacity, and those that load the model now, the shortest line first;
4. other cold backends.

A capacity only orders: whether a backend has room, `slots` and its own answers decide alone. The
line is the requests that must end before the next one can begin, and the rest of a load counts as
many requests as it takes the time of. Among equals, the least busy comes first, then the one that
last loaded the model with the same options, then the order of the settings decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

import attrs

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.contexts import loaded_context
from ollama_gateway.backends.health import Health
from ollama_gateway.backends.replica import Replica
from ollama_gateway.wire.identity import ConversationIdentity
from ollama_gateway.wire.load_options import LoadOptions
from ollama_gateway.wire.names import ModelName

if TYPE_CHECKING:
    from ollama_gateway.backends.backends import Backends


@attrs.frozen
class RouteRequest:
    """What a request needs from a backend."""

    model: ModelName
    key_id: str
    load_options: LoadOptions = ()
    is_slotless: bool = False
    """Whether it costs a backend nothing, and so needs no slot."""
    only: Backend | None = None
    """The backend that the request names itself, if any: no other is asked."""
    conversation: ConversationIdentity | None = None
    """The conversation that it belongs to, if any."""
    size: int = 0
    """Bytes of its body."""
    context: int | None = None
    """The tokens of context that the model must be loaded with; None if any will do."""

    def may_go_to(self, backend: Backend) -> bool:
        """True if the backend could serve the request, even if it is down now."""
        return self.only in (None, backend) and backend.hosts(self.model)

    def can_go_to(self, backend: Backend) -> bool:
        """Return True if the backend is a candidate now."""
        return backend.is_up and not backend.is_paused and self.may_go_to(backend)


@attrs.frozen(eq=False)
class Evaluation:
    """One backend's state now, for one request."""

    backend: Backend
    health: Health
    replica: Replica
    position: int
    """Its index in the order of priorities and settings."""
    is_warm: bool
    is_loading: bool
    """Whether its Ollama loads the model now."""
    is_cold: bool
    """Whether its Ollama would have to load the model first."""
    is_admitted: bool
    """Whether its breakers admit an attempt."""
    is_closed: bool
    """Whether its breakers are closed."""
    is_failing: bool
    """Whether its last attempt failed."""
    is_backing_off: bool
    has_room: bool
    is_loaded_so: bool
    """Whether the model was last loaded with the same options, and a context that is enough."""
    may_evict: bool
    """Whether loading the model may unload another one that is in use."""
    line: float
    """Requests, fractions included, that must end before the next one can begin."""
    changes: tuple[float, ...]
    """Times, also past ones, at which its breakers admit again; last, the end of its backoff."""

    @classmethod
    def of(cls, route: RouteRequest, backend: Backend, position: int, now: float) -> Evaluation:
        """Evaluate one backend."""
        model = route.model
        health, replica = backend.health_of(model), backend.replica_of(model)
        breakers = [backend.breaker] if route.is_slotless else [backend.breaker, health.breaker]
        is_backing_off = not route.is_slotless and now < health.backoff_until
        until = [breaker.until for breaker in breakers if breaker.until is not None]
        is_warm = backend.has_warm(model)
        is_loading = replica.loading_since is not None and not is_warm
        is_cold = backend.needs_load(model) and not replica.running
        return cls(
            backend,
            health,
            replica,
            position,
            is_warm=is_warm,
            is_loading=is_loading,
            is_cold=is_cold,
            is_admitted=not until or all(breaker.admits(now) for breaker in breakers),
            is_closed=not until,
            is_failing=health.is_failing or backend.breaker.failures > 0,
            is_backing_off=is_backing_off,
            has_room=route.is_slotless or not (is_backing_off or backend.is_full),
            is_loaded_so=health.load_options == route.load_options
            and _is_enough(loaded_context(backend, model), route.context),
            may_evict=is_cold and backend.may_evict(model, now),
            line=_line(backend, replica, replica.load_left(now) if is_loading else 0),
            changes=(*until, health.backoff_until),
        )

    @property
    def open_until(self) -> float:
        """When the last of its breakers admits an attempt again."""
        return max(self.changes[:-1], default=0.0)

    @property
    def busy(self) -> float:
        """How busy the backend is, for its slots."""
        return self.backend.in_flight / _capacity(self.backend, self.replica)

    @property
    def wait(self) -> float:
        """Seconds until the next request could begin, without a load."""
        return self.line * self.replica.request_seconds / _capacity(self.backend, self.replica)

    def begins_in(self, now: float) -> float:
        """Return the seconds until it could begin to read a prompt: its work, and its load."""
        replica = self.replica
        load = replica.load_seconds if self.is_cold else replica.load_left(now)
        backoff = max(0.0, self.health.backoff_until - now)
        if self.is_loading or not (self.line or replica.work.awaiting):
            return load + backoff
        seconds = replica.work.seconds(now, replica.prefill.seconds(1))
        return load + backoff + seconds / _capacity(self.backend, replica)


def _is_enough(loaded: int | None, wanted: int | None) -> bool:
    return loaded is None or wanted is None or wanted <= loaded


def _capacity(backend: Backend, replica: Replica) -> int:
    return backend.slots or replica.capacity.value


def _line(backend: Backend, replica: Replica, load_left: float) -> float:
    capacity = _capacity(backend, replica)
    running = backend.in_flight if backend.slots else replica.running
    return max(0, running - capacity + 1) + load_left * capacity / replica.request_seconds


def evaluate(route: RouteRequest, backends: Backends, now: float) -> list[Evaluation]:
    """Evaluate all candidates, in the order of priorities and settings."""
    return [
        Evaluation.of(route, backend, position, now)
        for position, backend in enumerate(backends.all)
        if route.can_go_to(backend)
    ]


def in_order(
    evaluated: list[Evaluation], first: Backend | None = None, last: Backend | None = None
) -> list[Evaluation]:
    """Sort evaluations, the one to ask first in front, without regard to room.

    Args:
        evaluated: of all candidates.
        first: the backend that comes first in its tier.
        last: the backend that comes last in its tier.

    """
    admitted = ranked((e for e in evaluated if e.is_admitted), first, last)
    if len(admitted) == len(evaluated):
        return admitted
    others = sorted([e for e in evaluated if not e.is_admitted], key=lambda e: e.open_until)
    return admitted + others


def ranked(
    candidates: Iterable[Evaluation], first: Backend | None = None, last: Backend | None = None
) -> list[Evaluation]:
    """Sort candidates, the best first, tier by tier; `first` and `last` as for `in_order`."""

    def key(tier: _Tier, candidate: Evaluation) -> tuple[float, ...]:
        backend = candidate.backend
        return (backend is not first, backend is last, *_rank(tier, candidate))

    return [
        candidate
        for _, tier in sorted(_tiers(candidates).items())
        for candidate in sorted(tier, key=partial(key, _Tier.of(tier)))
    ]


def alike(candidates: Iterable[Evaluation]) -> tuple[list[Evaluation], list[Evaluation]]:
    """Return the best tier, and those in it that rank as its best does and could begin at once."""
    tiers = _tiers(candidates)
    tier = tiers[min(tiers)] if tiers else []
    state = _Tier.of(tier)
    able = [(_rank(state, e)[:2], e) for e in tier if e.has_room and not e.line]
    best = min((rank for rank, _ in able), default=())
    return tier, [e for rank, e in able if rank == best]


def _tiers(candidates: Iterable[Evaluation]) -> dict[int, list[Evaluation]]:
    tiers: dict[int, list[Evaluation]] = {}
    for candidate in candidates:
        tiers.setdefault(candidate.backend.priority, []).append(candidate)
    return tiers


@attrs.frozen
class _Tier:
    """What the rank of a candidate depends on besides itself."""

    has_slots: bool
    """Whether all of its backends have `slots`."""
    is_loading: bool
    """Whether one of them loads the model now."""
    shortest_wait: float
    """Seconds until the first of those that are not cold could begin; infinite without any."""

    @classmethod
    def of(cls, tier: list[Evaluation]) -> _Tier:
        return cls(
            all(candidate.backend.slots for candidate in tier),
            any(candidate.is_loading for candidate in tier),
            min((candidate.wait for candidate in tier if not candidate.is_cold), default=math.inf),
        )

    def is_worth_a_load(self, candidate: Evaluation) -> bool:
        if not candidate.may_evict and not self.is_loading:
            return True
        return candidate.replica.load_seconds < self.shortest_wait


def _rank(tier: _Tier, candidate: Evaluation) -> tuple[float, ...]:
    least_busy = candidate.busy, not candidate.is_loaded_so, candidate.position
    if tier.has_slots:
        return (not candidate.is_warm, 0, *least_busy)
    if candidate.is_cold:
        return (1 if tier.is_worth_a_load(candidate) else 3, candidate.may_evict, *least_busy)
    return (2, candidate.line, *least_busy) if candidate.line else (0, 0, *least_busy)
