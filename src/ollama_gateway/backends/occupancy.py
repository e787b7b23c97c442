"""A slot: one attempt's place at a backend, and what the attempt shows about that backend.

Ollama does not tell the length of its queue, so the gateway counts what it sends. A slot is taken
in the instant in which its backend is chosen, and released when the attempt ends: for the winner,
at the end of its answer. A released slot goes to the next waiting request at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from ollama_gateway import clock
from ollama_gateway.backends.breaker import Breaker
from ollama_gateway.backends.capacity import StreamStart
from ollama_gateway.backends.health import BackendFault, Health
from ollama_gateway.backends.replica import Replica
from ollama_gateway.reasons import AnyReason
from ollama_gateway.wire.load_options import LoadOptions
from ollama_gateway.wire.names import ModelName

if TYPE_CHECKING:
    from ollama_gateway.backends.backend import Backend
    from ollama_gateway.backends.backends import Backends
    from ollama_gateway.backends.placement import AffinityKind, Placement

FAILING: Final = {BackendFault.UNREACHABLE, BackendFault.BROKEN, BackendFault.ERROR}
"""Faults that mark a model on a backend as failing until it answers again."""


@attrs.define(eq=False)
class Slot:
    """One attempt's place; `now` is always seconds on the event loop's clock.

    A slotless request, as `/api/show`, costs a backend nothing: it takes no room, and shows only
    whether the backend can be reached.
    """

    backend: Backend
    model: ModelName
    health: Health
    replica: Replica
    began: float
    was_warm: bool
    found_room: bool
    """Whether it began on a loaded model, with fewer requests beside it than are served at once."""
    is_slotless: bool
    is_hedge: bool
    placement: Placement | None
    """What it should find in the prefix cache; None where that does not count."""
    _backends: Backends
    _probes: set[Breaker]
    """Breakers whose probe this attempt is, until it has a result for them."""
    reason: AnyReason | None = attrs.field(default=None, init=False)
    """Why the attempt failed."""
    queued: float | None = attrs.field(default=None, init=False)
    """When the request joined the line in which it waited for this slot, if it did."""
    _stream: StreamStart | None = attrs.field(default=None, init=False)
    """The stream that it is receiving, if any."""
    _has_answered: bool = attrs.field(default=False, init=False)
    _is_released: bool = attrs.field(default=False, init=False)

    @classmethod
    def take(
        cls,
        backends: Backends,
        backend: Backend,
        model: ModelName,
        now: float,
        *,
        load_options: LoadOptions = (),
        is_slotless: bool = False,
        is_hedge: bool = False,
        placement: Placement | None = None,
    ) -> Slot:
        """Begin an attempt at a backend."""
        health = backend.health_of(model)
        replica = backend.replica_of(model)
        needs_load = backend.needs_load(model)
        found_room = not needs_load and replica.running < replica.capacity.value
        if not is_slotless:
            backend.in_flight += 1
            health.load_options = load_options
            replica.begin(now, needs_load=needs_load)
            backend.note_use(model, now)
        breakers = [backend.breaker] if is_slotless else [backend.breaker, health.breaker]
        probes = {breaker for breaker in breakers if breaker.begin(now)}
        if placement is not None:
            placement.began(now)
        return cls(
            backend=backend,
            model=model,
            health=health,
            replica=replica,
            began=now,
            was_warm=backend.has_warm(model),
            found_room=found_room,
            is_slotless=is_slotless,
            is_hedge=is_hedge,
            placement=placement,
            backends=backends,
            probes=probes,
        )

    def after_queue(self, since: float) -> Slot:
        """Note since when the request waited in line for this slot, and return it."""
        self.queued = since
        return self

    @property
    def affinity(self) -> AffinityKind | None:
        """Whether its conversation has kept its replica; None where that does not count."""
        return self.placement.kind if self.placement is not None else None

    def connected(self) -> None:
        """Note that the backend can be reached: it has begun an answer of any kind."""
        breaker = self.backend.breaker
        self._probes.discard(breaker)
        if breaker.answered():
            self._backends.breaker_closed(self.backend, None)
        breaker.succeeded()

    def answered(self, now: float, *, is_timed: bool) -> None:
        """Note a good chunk; its time counts only for a streamed answer (`is_timed`)."""
        if self.is_slotless:
            return
        self._has_answered, self.health.is_failing = True, False
        self._probes.discard(self.health.breaker)
        self.backend.has_answered(self.model)
        self.replica.answered(now, is_timed=is_timed)
        if is_timed:
            self._stream = self.replica.capacity.begin(now)
        if not self.was_warm:
            self.backend.load_changed.set()
        if is_timed:
            self.health.first_chunks.append(now - self.began)
        if self.placement is not None:
            self.placement.answered(now, now - self.began if is_timed else None)
        if self.health.breaker.answered():
            self._backends.breaker_closed(self.backend, self.model)

    def ended_stream(self, now: float, chunks: int) -> None:
        """Note the last chunk of a stream, or with 0 chunks that it was not sent to its end."""
        if self._stream is not None:
            self.replica.capacity.end(self._stream, now, chunks)
            self._stream = None

    def failed(
        self,
        fault: BackendFault,
        reason: AnyReason,
        now: float,
        *,
        retry_after: float | None = None,
    ) -> None:
        """Note a failure, before a good chunk or later in the answer; call it before `release`."""
        self.reason = reason
        if fault is BackendFault.UNREACHABLE:
            self._count(self.backend.breaker, None, reason, now)
        if self.is_slotless:
            return
        self._has_answered = False
        self.health.is_failing = self.health.is_failing or fault in FAILING
        if fault is BackendFault.BROKEN:
            self._count(self.health.breaker, self.model, reason, now)
        elif fault is BackendFault.FULL:
            self.health.backoff(now, retry_after)
            self._backends.line.dispatch(self.health)
        elif fault is BackendFault.LACKS_MODEL:
            self._backends.lost(self.backend, self.model)

    def blame(self, reason: AnyReason, now: float) -> None:
        """Count its error after all: another backend has served the request."""
        if not self.is_slotless:
            self._count(self.health.breaker, self.model, reason, now)

    def release(self) -> None:
        """Give the place back; further calls do nothing."""
        if self._is_released:
            return
        self._is_released = True
        if self._has_answered:
            self.health.breaker.succeeded()
        if not self.is_slotless:
            self._leave(clock.now())

    def _leave(self, now: float) -> None:
        was_full = self.backend.is_full
        self.backend.attempt_ended()
        self.backend.note_use(self.model, now)
        self.ended_stream(now, 0)
        if self.placement is not None:
            self.placement.ended(now)
        is_measured = self._has_answered and self.found_room
        self.replica.end(now - self.began if is_measured else None)
        if was_full and self.backend.has_slot():  # a reload may have left it fewer slots
            self._backends.line.dispatch(self.backend, self.backend.has_slot)

    def release_probe(self) -> None:
        """Let another attempt be the probe: this one has lost its race and shows nothing more."""
        for probe in self._probes:
            probe.drop_probe()
        if self._probes:
            is_of_backend = self.backend.breaker in self._probes
            self._probes.clear()
            self._backends.line.dispatch(self.backend if is_of_backend else self.health)

    def _count(
        self, breaker: Breaker, model: ModelName | None, reason: AnyReason, now: float
    ) -> None:
        is_probe = breaker in self._probes
        self._probes.discard(breaker)
        if breaker.failed(now, reason, is_probe=is_probe) and breaker.until is not None:
            self._backends.breaker_opened(self.backend, model, reason, breaker.until - now)
