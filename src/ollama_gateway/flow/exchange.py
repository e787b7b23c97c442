"""One request, from the key to the last byte: the whole path, on one screen.

Each line may end the request with the errors named behind it; each block gives back what it took,
inside out, on every way out. Deadlines are scopes round a part of the path: until the first good
chunk of a stream `first_chunk_timeout` counts from the arrival, over all attempts.
"""

from __future__ import annotations

from functools import partial
from types import TracebackType

import attrs
import trio

from ollama_gateway import clock
from ollama_gateway.backends.backends import Backend, Backends, ModelDown, ModelUnknown
from ollama_gateway.backends.occupancy import Slot
from ollama_gateway.backends.selection import Candidates, RouteRequest
from ollama_gateway.errors import Forbidden, GatewayError, Unavailable, UpstreamTimeout
from ollama_gateway.flow.admission import ModelCall, bounded, may_call, read_call
from ollama_gateway.flow.answers import AnswerBudget
from ollama_gateway.flow.ask import Ask
from ollama_gateway.flow.attempt import AttemptFailed, BackendAnswer, attempt
from ollama_gateway.flow.race import Race, Rules, StartAttempt
from ollama_gateway.flow.relay import relay
from ollama_gateway.flow.target import backend_override
from ollama_gateway.keys.cache import KeyCache
from ollama_gateway.keys.key import Principal
from ollama_gateway.ledger.record import Attempt, AuditRecord, Ledger
from ollama_gateway.limits.leases import Cost, Lease, Limits
from ollama_gateway.limits.quota import Quota
from ollama_gateway.wire.headers import Headers


@attrs.frozen
class Deadlines:
    """Seconds; the settings of `[race]`."""

    queue: float
    first_chunk: float
    idle: float
    total: float


@attrs.frozen
class Exchange:
    """Serves inference and embeddings."""

    keys: KeyCache
    ledger: Ledger
    limits: Limits
    backends: Backends
    deadlines: Deadlines
    rules: Rules
    answers: AnswerBudget
    """Memory for whole answers."""
    expose_backend: bool = False

    async def serve(self, ask: Ask) -> None:
        """Serve one request to its end; raises GatewayError, before or after the first byte."""
        principal = await self.keys.identify(ask.credential)  # 401, before a byte of the body
        async with self.ledger.record(principal, ask) as record:  # exactly one row
            may_call(principal, ask)  # 403, 415
            only = backend_override(principal, ask, self.backends)  # 403, 400
            quota = self.limits.quota_of(principal.limits)
            with self.limits.lease(quota, record) as lease:  # holds nothing yet
                call = await self._call(principal, ask, lease)  # 429, 408, 413, 503, 400, 403
                record.model, record.bytes_in = call.model.short, call.size
                with Deadline(ask.arrived + self.deadlines.total):  # 504
                    candidates = self.candidates(principal, call, only)  # 503, the one 403
                    await self.limits.admit(lease, self._cost(call, quota))  # 429, 503, 400
                    await self.ledger.admit(record)  # 503
                    call = bounded(call, lease.generation)  # 400
                    start, deadline = self.attempts(call, ask, record), self._deadline(call, ask)
                    racing = Race(candidates, start, self.rules, deadline, is_streamed=call.streams)
                    async with racing as winner:  # 502, 503, 504; leaving closes the losers
                        record.backend = winner.backend.name
                        record.model = winner.backend.spelling(call.model) or record.model
                        record.ttft = clock.now() - ask.arrived
                        extra = lease.headers + self.exposed(winner.backend.name)
                        finish = partial(self._finish, lease, record, call)
                        await relay(winner, ask, record, finish, self.deadlines.idle, extra)

    async def _call(self, principal: Principal, ask: Ask, lease: Lease) -> ModelCall:
        """Read the body; where it is large or still to come, only once it has its places."""
        is_slow = not await ask.downstream.is_at_hand()
        if is_slow:
            await self.limits.enter(lease, may_be_free=ask.may_only_load)  # 429, 503
        body = await ask.downstream.body(principal.key_id)
        if is_slow:  # the key may have been revoked meanwhile, or may do less
            principal = await self.keys.identify(ask.credential)  # 401
            may_call(principal, ask)  # 403
        is_measured = lease.quota.has_budget or not ask.endpoint.reports_usage
        return await read_call(principal, ask, body, is_measured=is_measured)

    def attempts(self, call: ModelCall, ask: Ask, record: AuditRecord) -> StartAttempt:
        """The race's way to start an attempt, which leaves a note in the row."""
        return _attempts(call, ask, record, self.answers)

    def candidates(self, principal: Principal, call: ModelCall, only: Backend | None) -> Candidates:
        """Who may be asked, `only` one where the request names it; Unavailable, Forbidden."""
        try:
            self.backends.check(call.model, clock.now(), only)
        except ModelDown as down:
            raise Unavailable(reason=down.reason) from None
        except ModelUnknown:
            raise Forbidden(reason="unknown_model") from None
        is_slotless = call.endpoint.is_slotless
        route = RouteRequest(call.model, principal.key_id, call.load_options, is_slotless, only)
        return Candidates(self.backends, route, self.deadlines.queue)

    async def _finish(self, lease: Lease, record: AuditRecord, call: ModelCall) -> None:
        """The whole answer is there: give back what it held, and record it; 503."""
        self.limits.settle(lease)
        if record.prompt_tokens is None and call.measure and not call.endpoint.reports_usage:
            estimated, context = self.limits.prompts.estimated, self.backends.context(call.model)
            record.count(estimated(call.model.key, call.measure, context), 0)
        await self.ledger.finalize(record)

    def _cost(self, call: ModelCall, quota: Quota) -> Cost:
        measure = call.measure if quota.has_budget else None
        context = self.backends.context(call.model) if measure else None
        return Cost(call.model.key, measure, context)

    def exposed(self, backend: str) -> Headers:
        """What tells the client which backend has answered, where it may know."""
        return [(b"x-gateway-backend", backend.encode())] if self.expose_backend else []

    def _deadline(self, call: ModelCall, ask: Ask) -> float:
        """When the first good chunk has to be there; a whole answer has the total time for it."""
        deadlines = self.deadlines
        return ask.arrived + (deadlines.first_chunk if call.streams else deadlines.total)


def _attempts(call: ModelCall, ask: Ask, record: AuditRecord, budget: AnswerBudget) -> StartAttempt:
    async def start(slot: Slot) -> BackendAnswer:
        note = Attempt(slot.backend.name, clock.now() - ask.arrived, slot.is_hedge)
        if call.may_write_unheard:
            note.pace = slot.health.pace
        record.attempts.append(note)
        try:
            answer = await attempt(slot, call, record.key_id, budget)
        except (AttemptFailed, GatewayError) as failure:
            note.reason = failure.reason
            raise
        finally:
            note.reason = note.reason or slot.reason  # overtaken
        note.first_chunk = clock.now() - ask.arrived
        return answer

    return start


class Deadline:
    """A block that a deadline ends; it raises UpstreamTimeout then."""

    def __init__(
        self, deadline: float, late: str = "the answer took too long", reason: str = "total_timeout"
    ) -> None:
        self._scope = trio.CancelScope(deadline=deadline)
        self._late, self._reason = late, reason

    def __enter__(self) -> None:
        self._scope.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._scope.__exit__(kind, error, trace)
        if self._scope.cancelled_caught:
            raise UpstreamTimeout(self._late, reason=self._reason)
