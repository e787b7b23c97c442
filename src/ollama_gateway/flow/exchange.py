"""The path of one request, from its key to its last byte. Start reading here.

`Exchange.serve` is the whole path. The comment behind a line lists the HTTP statuses with which
that line may end the request. On every way out each block gives back what it took, the innermost
block first.

The total deadline starts to apply once the body is read. The first good chunk of a stream has a
deadline of its own, which covers all attempts. Both count from the arrival of the request.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import attrs

from ollama_gateway import clock
from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.evaluation import RouteRequest
from ollama_gateway.backends.occupancy import Slot
from ollama_gateway.backends.selection import Candidates
from ollama_gateway.backends.touching import Touch, Touches
from ollama_gateway.errors import GatewayError
from ollama_gateway.flow.admission import (
    ModelCall,
    bound_answer,
    may_call,
    read_call,
)
from ollama_gateway.flow.answers import AnswerBudget
from ollama_gateway.flow.ask import Ask
from ollama_gateway.flow.attempt import GoodAnswer, try_backend
from ollama_gateway.flow.changing_heads import ChangingHeads
from ollama_gateway.flow.deadline import Deadline, Deadlines
from ollama_gateway.flow.failures import AttemptFailed
from ollama_gateway.flow.fallbacks import Fallbacks
from ollama_gateway.flow.forwarding import attempt_headers
from ollama_gateway.flow.pinging import PingedRace
from ollama_gateway.flow.race import Race, Rules
from ollama_gateway.flow.relay import relay
from ollama_gateway.flow.resolving import Resolver
from ollama_gateway.flow.target import backend_override
from ollama_gateway.flow.unloading import JSON, loaded_at, unload_at_once, unloaded_answer
from ollama_gateway.keys.cache import KeyCache
from ollama_gateway.keys.key import Principal
from ollama_gateway.ledger.attempted import Attempt
from ollama_gateway.ledger.record import AuditRecord, Ledger
from ollama_gateway.limits.leases import Cost, Lease, Limiter
from ollama_gateway.limits.quota import Quota
from ollama_gateway.models.policies import LoadPolicies
from ollama_gateway.reasons import Reason
from ollama_gateway.wire.headers import CHANGED, Headers
from ollama_gateway.wire.keep_alive import FIELD as KEEP_ALIVE


@attrs.frozen
class Exchange:
    """Serves inference and embeddings."""

    keys: KeyCache
    ledger: Ledger
    limits: Limiter
    backends: Backends
    names: Resolver
    deadlines: Deadlines
    rules: Rules
    answers: AnswerBudget
    policies: LoadPolicies
    touches: Touches
    heads: ChangingHeads | None = None
    """Watches the heads of conversations, where these count."""
    expose_backend: bool = False

    async def serve(self, ask: Ask) -> None:
        """Serve one request to its end; raises GatewayError, before or after the first byte."""
        principal = await self.keys.identify(ask.credential)  # 401, before any byte of the body
        async with self.ledger.record(principal, ask) as record:  # exactly one audit record
            may_call(principal, ask)  # 403, 415
            only = backend_override(principal, ask, self.backends)  # 403, 400
            quota = self.limits.quota_of(principal.limits)
            with self.limits.lease(quota, record) as lease:  # holds nothing yet
                call = await self._read(principal, ask, lease)  # 429, 408, 413, 503, 400, 403
                record.model, record.bytes_in = call.model.short, call.size
                record.alias = call.requested_name.strip() if call.alias else None
                record.reason = Reason.TOOLS_REMOVED if call.lost_tools else None
                record.end_user = record.end_user or call.end_user
                with Deadline(ask.arrived + self.deadlines.total):  # 504
                    call = self.available(call, only)  # 503, the one 403
                    await self.limits.admit(lease, self._cost(call, quota))  # 429, 503, 400
                    await self.ledger.admit(record)  # 503
                    if call.load.unload != "none":
                        await self._unload(principal, call, ask, lease, record, only)  # 502, ...
                        return
                    call = bound_answer(call, lease.output)  # 400
                    candidates = self.candidates(principal, call, only)
                    race = self.pinged(candidates, call, ask, record, lease.headers)
                    async with race as winner:  # 502, 503, 504; leaving closes the losers
                        call = call.to(winner.slot.model)
                        record.backend = winner.backend.name
                        record.model = winner.backend.spelling(call.model) or record.model
                        record.ttft = clock.now() - ask.arrived
                        record.changed = ",".join(winner.changed) or None
                        record.affinity = winner.slot.affinity
                        served = call, record.backend, winner.changed, record.affinity
                        extra = lease.headers + self.exposed(*served)
                        finish = partial(self._finish, lease, record, call, winner.backend)
                        await relay(winner, ask, record, finish, self.deadlines.idle, extra)

    async def _read(self, principal: Principal, ask: Ask, lease: Lease) -> ModelCall:
        """Read and authorise the request; a large or slow body only after its places are held."""
        is_slow = not await ask.downstream.is_at_hand()
        if is_slow:
            await self.limits.enter(lease, may_be_free=ask.may_only_load)  # 429, 503
        body = await ask.downstream.body(principal.key_id)
        if is_slow:  # meanwhile the key may have been revoked or have lost rights
            principal = await self.keys.identify(ask.credential)  # 401
            may_call(principal, ask)  # 403
        is_measured = lease.quota.has_budget or not ask.endpoint.reports_usage
        names, policies, heads = self.names, self.policies, self.heads
        return await read_call(
            principal, ask, body, names, policies, is_measured=is_measured, heads=heads
        )

    def available(self, call: ModelCall, only: Backend | None) -> ModelCall:
        """Return the call with those of its models that a backend, or `only` that one, hosts now.

        Raises Unavailable or Forbidden where there is none.
        """
        return call.among(self.names.served(call.models, call.requested_name, only))

    def candidates(
        self, principal: Principal, call: ModelCall, only: Backend | None
    ) -> Candidates | Fallbacks:
        """Return the backends that may serve the call, or `only` that one."""
        found = [
            Candidates(self.backends, route, self.deadlines.queue)
            for model in call.models
            for route in [self._route(principal, call.to(model), only)]
        ]
        return found[0] if call.alias is None else Fallbacks(found, on_full=call.alias.on_full)

    def _route(self, principal: Principal, call: ModelCall, only: Backend | None) -> RouteRequest:
        return RouteRequest(
            call.model,
            principal.key_id,
            call.load.options,
            is_slotless=call.endpoint.is_slotless or call.load.unload != "none",
            only=only,
            conversation=call.conversation,
            size=call.size,
            context=call.load.context,
        )

    def race(
        self, candidates: Candidates | Fallbacks, call: ModelCall, ask: Ask, record: AuditRecord
    ) -> Race:
        """Return the race for the first good chunk; the record lists its attempts.

        A whole answer may use all of the total time; it has no first chunk of its own.
        """
        deadlines = self.deadlines
        deadline = ask.arrived + (deadlines.first_chunk if call.streams else deadlines.total)
        start = partial(self._attempt, call, ask, record)
        return Race(
            candidates,
            start,
            self.rules,
            deadline,
            is_streamed=call.streams,
            requested_name=call.requested_name,
        )

    def pinged(
        self,
        candidates: Candidates | Fallbacks,
        call: ModelCall,
        ask: Ask,
        record: AuditRecord,
        headers: Headers,
    ) -> Race | PingedRace:
        """Return the race, with comments for the client where its stream can have them."""
        race, after = self.race(candidates, call, ask, record), self.deadlines.ping
        if math.isinf(after) or not (call.streams and call.endpoint.dialect.has_comments):
            return race
        return PingedRace(race, ask, record, after, headers)

    async def _attempt(
        self, call: ModelCall, ask: Ask, record: AuditRecord, slot: Slot
    ) -> GoodAnswer:
        """Make one attempt and note it in the record."""
        note = Attempt(slot.backend.name, clock.now() - ask.arrived, slot.is_hedge)
        if call.may_write_unheard:
            note.pace = slot.health.pace
        record.attempts.append(note)
        if record.queued is None and slot.queued is not None:
            record.queued = slot.queued - ask.arrived
        if call.alias is not None:
            record.model = note.model = slot.model.short
        try:
            answer = await try_backend(
                slot,
                call.to(slot.model),
                record.key_id,
                self.answers,
                attempt_headers(call.headers, record, note),
            )
        except BaseException as failure:
            note.ended = clock.now() - ask.arrived
            if isinstance(failure, AttemptFailed | GatewayError):
                note.reason = failure.reason
            raise
        finally:
            note.reason = note.reason or slot.reason  # the slot's, if the attempt lost to its hedge
        note.answered(clock.now() - ask.arrived, record.attempts)
        return answer

    async def _finish(
        self, lease: Lease, record: AuditRecord, call: ModelCall, backend: Backend
    ) -> None:
        """Settle and record a request whose answer is complete; raises Unavailable."""
        if call.alias is not None:
            lease.cost = attrs.evolve(lease.cost, model=call.model.key)
        self.limits.settle(lease)
        if record.prompt_tokens is None and call.measure and not call.endpoint.reports_usage:
            estimated, context = self.limits.prompts.estimated, self.backends.context(call.model)
            record.count(estimated(call.model.key, call.measure, context), 0)
        if call.load.unloads:
            backend.load_changed.set()
        if call.load.touch is not None:
            embeds = call.endpoint.inputs is not None
            self.touches.note(backend, Touch(call.model, call.load.touch, embeds))
        await self.ledger.finalize(record)

    async def _unload(
        self,
        principal: Principal,
        call: ModelCall,
        ask: Ask,
        lease: Lease,
        record: AuditRecord,
        only: Backend | None,
    ) -> None:
        """Unload the model wherever it is loaded, or nowhere, and answer; raises as a race does."""
        changed: tuple[str, ...] = ()
        call = call.among(call.models[:1])
        if call.load.unload == "everywhere":
            loaded = loaded_at(call.model, self.backends) if only is None else []
            targets: Sequence[Backend | None] = loaded or [only]
            found = [self.candidates(principal, call, backend) for backend in targets]
            await unload_at_once([self.race(one, call, ask, record) for one in found])
            record.backend = record.attempts[0].backend
        else:
            changed, record.reason = (KEEP_ALIVE,), Reason.UNLOAD_IGNORED
        record.status, record.changed = 200, ",".join(changed) or None
        self.limits.settle(lease)
        await self.ledger.finalize(record)
        asked = ", ".join([attempt.backend for attempt in record.attempts])
        headers = JSON + lease.headers + self.exposed(call, asked, changed)
        await ask.downstream.respond(200, headers, unloaded_answer(call))

    def _cost(self, call: ModelCall, quota: Quota) -> Cost:
        """Return what the dearest of the call's models may need."""
        measure = call.measure if quota.has_budget else None
        if measure is None:
            return Cost(call.model.key)
        costs = [Cost(m.key, measure, self.backends.context(m)) for m in call.models]
        bound = self.limits.prompts.bound
        return max(costs, key=lambda cost: bound(cost.model, measure, cost.context))

    def exposed(
        self,
        call: ModelCall,
        backend: str,
        changed: tuple[str, ...] = (),
        affinity: str | None = None,
    ) -> Headers:
        """Return headers that tell of changes, and how it is served, if clients may see that."""
        told = [(CHANGED, ", ".join(changed).encode())] if changed else []
        if not self.expose_backend:
            return told
        if backend:
            told.append((b"x-gateway-backend", backend.encode()))
        if call.alias is not None:
            told.append((b"x-gateway-model", call.model.short.encode()))
        if affinity is not None:
            told.append((b"x-gateway-affinity", affinity.encode()))
        return told
