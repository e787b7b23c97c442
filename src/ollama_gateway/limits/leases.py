"""Reserve and settle the limits of requests, from their admission to their end.

`Limiter.lease` is a block: it holds nothing at first, and settles its reservation on every way out.
If the body is still to come, `enter` reserves the request's places before it is read; `admit`
reserves the rest. The charge is, in this order: the tokens that the backend reported; an estimate,
if a backend had begun to work and was cut (the client left, a deadline, a drain); nothing, if no
backend had begun. The relay settles a little earlier, before the last bytes leave, so a client that
has its answer also has its place back.

`heartbeat.py` renews open reservations in a shared store once a second.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol

import anyio
import attrs

from ollama_gateway import clock
from ollama_gateway.limits.charges import Charge
from ollama_gateway.limits.heartbeat import Heartbeat
from ollama_gateway.limits.prompt import PromptBounds, estimate
from ollama_gateway.limits.quota import (
    Grant,
    LimitRefusal,
    LimitStatuses,
    OwnLimits,
    Quota,
    QuotaStore,
    Reservation,
    ReservationRequest,
)
from ollama_gateway.limits.replies import REASONS, headers_of, refused
from ollama_gateway.limits.usage_journal import UsageJournal
from ollama_gateway.log import get_logger
from ollama_gateway.metrics import Metrics
from ollama_gateway.services import running
from ollama_gateway.wire.bounds import Measure
from ollama_gateway.wire.headers import Headers

START_SECONDS: Final = 3.0
"""Seconds that a start waits for the store; after that it goes on, not ready, and keeps trying."""
MIN_OUTPUT: Final = 256
"""Tokens below which an answer is not cut to fit a budget."""

log = get_logger("limits")


class Meter(Protocol):
    """The use of a request so far, as its audit record has it."""

    request_id: str
    key_id: str
    prompt_tokens: int | None
    completion_tokens: int | None
    tokens_source: str | None
    is_reserving: bool
    """Whether the store is being asked."""
    usage_journal: str | None
    """Id of the usage journal that has its tokens; None if no budget is charged."""

    @property
    def was_worked_on(self) -> bool:
        """Whether a backend was asked and did not fail."""
        ...

    @property
    def relayed(self) -> int:
        """Tokens of the answer that went to the client."""
        ...

    @property
    def unheard(self) -> int:
        """Tokens that a backend has likely written and not sent."""
        ...

    def count(self, prompt: int | None, completion: int | None) -> None:
        """Fill in the counts that no backend has reported."""
        ...


@attrs.frozen
class Cost:
    """The tokens that a call needs, besides its places."""

    model: str = ""
    """The model's key."""
    measure: Measure | None = None
    """Of the request's body; None if it costs no tokens, or the key has no budget."""
    context: int | None = None
    """Tokens that the model was trained for, if known."""


@attrs.define(eq=False)
class Lease:
    """The reservation of one request; settled once."""

    meter: Meter
    quota: Quota
    cost: Cost = Cost()
    """Empty until the body was read."""
    prompt: int = 0
    """Most tokens of the prompt."""
    grant: Grant | None = None
    """None if the key has no limits, and until something is reserved."""
    is_settled: bool = False

    @property
    def output(self) -> int | None:
        """Tokens that the answer may have, for the backend; None: as the client asked."""
        measure = self.cost.measure
        if measure is None or measure.inputs or not self.grant:
            return None
        return self.grant.output // measure.passes

    @property
    def headers(self) -> Headers:
        """Headers that show the client its limits."""
        return headers_of(self.grant.usage.statuses(self.quota)) if self.grant else []

    @property
    def used(self) -> int:
        """Tokens used so far."""
        return sum(self.charge)

    @property
    def charge(self) -> Charge:
        """Tokens of the prompt and of the answer so far, each reported or else counted."""
        meter, measure = self.meter, self.cost.measure
        prompt, completion = meter.prompt_tokens, meter.completion_tokens
        if measure is not None and meter.was_worked_on:
            prompt = estimate(measure, self.prompt) if prompt is None else prompt
            completion = self.answered if completion is None else completion
        return prompt or 0, completion or 0

    @property
    def answered(self) -> int:
        """Tokens of the answer by our own count, at most its bound; an embedding has none."""
        measure, grant = self.cost.measure, self.grant
        if measure is None or measure.inputs or grant is None:
            return 0
        return min(self.meter.relayed + self.meter.unheard, grant.output)


@attrs.define(eq=False)
class Limiter:
    """Admits requests within the limits of their keys.

    Args:
        store: counts them.
        usage_journal: the journal from which budgets are rebuilt.
        defaults: the limits of keys that set none.
        default_output: tokens reserved for an answer that its client does not bound.
        metrics: counts refusals and underestimated prompts.

    """

    store: QuotaStore
    usage_journal: UsageJournal
    defaults: Quota
    default_output: int
    metrics: Metrics
    prompts: PromptBounds = attrs.field(factory=PromptBounds)
    _open: dict[str, Lease] = attrs.field(factory=dict, init=False)

    @property
    def open(self) -> int:
        """Number of requests that hold a reservation."""
        return len(self._open)

    def quota_of(self, own: OwnLimits, *, spends_tokens: bool = True) -> Quota:
        """Return the limits in force for a key, without budgets if its request spends no tokens."""
        quota = Quota.of(own, self.defaults)
        return quota if spends_tokens else quota.without_budget

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Limiter]:
        """Renew reservations within a block, which begins once the store admits, or after 3 s."""
        if not self.store.is_shared:
            yield self
            return
        heartbeat = Heartbeat(self.store, self.usage_journal, self._charges)
        async with running(heartbeat.run):
            with anyio.move_on_after(START_SECONDS):
                await heartbeat.is_ready.wait()
            yield self

    def lease(self, quota: Quota, meter: Meter) -> Leasing:
        """Hold a request's reservation for the length of a block; empty at first."""
        return Leasing(self, Lease(meter, quota))

    async def enter(self, lease: Lease, *, may_be_free: bool = False) -> None:
        """Reserve a request's places before its body is read; raises LimitReached, Unavailable.

        A budget with no token left refuses it too, unless `may_be_free`: it may need no tokens.
        """
        quota = lease.quota.without_budget if may_be_free else lease.quota
        if not quota.is_empty:
            meter, least = lease.meter, int(quota.has_budget)
            request = ReservationRequest(meter.request_id, meter.key_id, quota, min_output=least)
            await self._reserve(lease, request)

    async def admit(self, lease: Lease, cost: Cost) -> None:
        """Reserve the tokens of a call, and its places if it has none yet.

        Raises LimitReached, Unavailable, and BadRequest if its tokens have no bound.
        """
        lease.cost = cost
        quota = lease.quota if cost.measure else lease.quota.without_budget
        if quota.has_budget or not (lease.grant or quota.is_empty):
            await self._reserve(lease, self._reservation_request(lease, quota))

    def settle(self, lease: Lease) -> None:
        """Charge the tokens used and give the rest back; a second call does nothing."""
        if lease.is_settled or lease.grant is None:
            return
        lease.is_settled = True
        reservation = lease.grant.reservation
        if reservation.tokens:
            self._note(lease)
        used = lease.used  # read once, as it may grow with time; the journal gets the same figure
        self._open.pop(reservation.request_id, None)
        self.store.settle(reservation, used)
        if reservation.tokens:
            self.usage_journal.end(reservation.request_id, used)

    async def statuses(self, key_id: str, own: OwnLimits) -> LimitStatuses:
        """Return the status of a key's limits; raises Unavailable."""
        quota = self.quota_of(own)
        if quota.is_empty:
            return {}
        return (await self.store.usage(key_id)).statuses(quota)

    async def _reserve(self, lease: Lease, request: ReservationRequest) -> None:
        """Reserve in the store; raises LimitReached, Unavailable."""
        lease.meter.is_reserving = True
        outcome = await self.store.reserve(request)
        lease.meter.is_reserving = False
        if (near := self.metrics.near_limits).is_on:
            near.note(request.key_id, outcome.usage.statuses(request.quota).items(), clock.now())
        if isinstance(outcome, LimitRefusal):
            self.metrics.limited(REASONS[outcome.limit])
            raise refused(outcome, request.quota)
        lease.grant, reservation = outcome, outcome.reservation
        self._open[reservation.request_id] = lease
        if reservation.tokens:
            lease.meter.usage_journal = self.usage_journal.identity
            # A shared store charges nothing before the first renewal.
            bound = 0 if self.store.is_shared else request.prompt
            request_id, day = reservation.request_id, reservation.day
            self.usage_journal.begin(request_id, reservation.key_id, day, bound)

    def _reservation_request(self, lease: Lease, quota: Quota) -> ReservationRequest:
        cost, measure, meter = lease.cost, lease.cost.measure, lease.meter
        if measure is None:
            return ReservationRequest(meter.request_id, meter.key_id, quota)
        passes = measure.passes
        lease.prompt = passes * self.prompts.bound(cost.model, measure, cost.context)
        asked = 0 if measure.inputs else measure.asked or self.default_output
        sizes = lease.prompt, passes * asked, passes * min(asked, MIN_OUTPUT)
        has_places = lease.grant is not None
        return ReservationRequest(
            meter.request_id, meter.key_id, quota, *sizes, has_places=has_places
        )

    def _note(self, lease: Lease) -> None:
        """Fill in missing counts, and learn from a reported prompt."""
        meter, measure = lease.meter, lease.cost.measure
        if measure is None or not meter.was_worked_on:
            return
        reported = meter.prompt_tokens
        meter.count(estimate(measure, lease.prompt), lease.answered)
        if reported is None:
            return
        model, bound = lease.cost.model, lease.prompt
        if self.prompts.learn(model, measure, bound, reported):
            self.metrics.underestimated(model)
            message = "a prompt had more tokens than its bound"
            log.warning(message, model=model, bound=bound, reported=reported)

    def _charges(self) -> Sequence[tuple[Reservation, Charge]]:
        held = self._open.values()
        return [(lease.grant.reservation, lease.charge) for lease in held if lease.grant]


@attrs.define(eq=False)
class Leasing:
    """The block of one lease: settles it at the end."""

    limits: Limiter
    lease: Lease

    def __enter__(self) -> Lease:
        return self.lease

    def __exit__(self, *_: object) -> None:
        self.limits.settle(self.lease)
