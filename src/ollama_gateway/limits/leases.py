"""The requests that hold something of their keys' limits, from their admission to their end.

`Limits.lease` is a block: it holds nothing at first, and gives back what was reserved in it on
every way out. A request whose body is still to come reserves its places by `enter` before it is
read; `admit` reserves what the call needs, or what of it is missing. What is charged then is, in
this order: what the backend reported; what can be counted, where a backend had begun to work and
was cut (the client left, a deadline, a drain); nothing, where no backend had. The relay settles a
little earlier, before the last bytes leave: a client that has its answer has its place back too.

A shared store is told once a second what is open here (`heartbeat.py`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol

import anyio
import attrs

from ollama_gateway.limits.charges import Charge
from ollama_gateway.limits.heartbeat import Heartbeat
from ollama_gateway.limits.prompt import PromptBounds, estimate
from ollama_gateway.limits.quota import (
    Grant,
    LimitStatuses,
    OwnLimits,
    Quota,
    QuotaStore,
    Refusal,
    Reservation,
    ReservationRequest,
)
from ollama_gateway.limits.replies import REASONS, headers_of, refused
from ollama_gateway.limits.spending import Spending
from ollama_gateway.log import get_logger
from ollama_gateway.metrics import Metrics
from ollama_gateway.services import running
from ollama_gateway.wire.bounds import Measure
from ollama_gateway.wire.headers import Headers

START: Final = 3.0
"""Seconds that a start waits for the store; then it is not ready, and goes on trying."""
LEAST: Final = 256
"""Tokens below which a generation is not cut to fit a budget."""

log = get_logger("limits")


class Meter(Protocol):
    """What is known of a request's use so far: its row."""

    request_id: str
    key_id: str
    prompt_tokens: int | None
    completion_tokens: int | None
    tokens_source: str | None
    spender: str | None
    """Whose record of spending has its tokens; None where no budget is charged."""

    @property
    def was_worked_on(self) -> bool:
        """Whether some backend was asked and did not fail."""
        ...

    @property
    def relayed(self) -> int:
        """Tokens of the answer that went to the client."""
        ...

    @property
    def unheard(self) -> int:
        """Tokens that a backend has likely written besides."""
        ...

    def count(self, prompt: int | None, completion: int | None) -> None:
        """Fill in what no backend has reported."""
        ...


@attrs.frozen
class Cost:
    """What a call needs of its key's limits, besides its places."""

    model: str = ""
    """The model's key."""
    measure: Measure | None = None
    """Of the request's body; where it costs tokens, and the key has a budget."""
    context: int | None = None
    """Tokens that the model was trained for, where that is known."""


@attrs.define(eq=False)
class Lease:
    """What one request holds; settled once."""

    meter: Meter
    quota: Quota
    cost: Cost = Cost()
    """Nothing, until the body was read."""
    prompt: int = 0
    """Tokens of the prompt, at most."""
    grant: Grant | None = None
    """None where the key has no limits, and until anything is reserved."""
    is_settled: bool = False

    @property
    def generation(self) -> int | None:
        """Tokens that the answer may have, to be said to the backend; None: as the client said."""
        measure = self.cost.measure
        if measure is None or measure.inputs or not self.grant:
            return None
        return self.grant.generation // measure.passes

    @property
    def headers(self) -> Headers:
        """What the client is told of its limits."""
        return headers_of(self.grant.usage.statuses(self.quota)) if self.grant else []

    @property
    def used(self) -> int:
        """Tokens used so far: reported, or counted, each half for itself."""
        return sum(self.charge)

    @property
    def charge(self) -> Charge:
        """The same, of the prompt and of the answer."""
        meter, measure = self.meter, self.cost.measure
        prompt, completion = meter.prompt_tokens, meter.completion_tokens
        if measure is not None and meter.was_worked_on:
            prompt = estimate(measure, self.prompt) if prompt is None else prompt
            completion = self.answered if completion is None else completion
        return prompt or 0, completion or 0

    @property
    def answered(self) -> int:
        """Tokens of the answer that can be counted, at most its bound; an embedding has none."""
        measure, grant = self.cost.measure, self.grant
        if measure is None or measure.inputs or grant is None:
            return 0
        return min(self.meter.relayed + self.meter.unheard, grant.generation)


@attrs.define(eq=False)
class Limits:
    """Admits requests within the limits of their keys.

    Args:
        store: where they are counted.
        spending: the record from which budgets are rebuilt.
        defaults: the limits of keys that set none.
        default_output: tokens reserved for an answer that its client does not bound.
        metrics: counts refusals and surprises.

    """

    store: QuotaStore
    spending: Spending
    defaults: Quota
    default_output: int
    metrics: Metrics
    prompts: PromptBounds = attrs.field(factory=PromptBounds)
    _open: dict[str, Lease] = attrs.field(factory=dict, init=False)

    @property
    def open(self) -> int:
        """Requests that hold something."""
        return len(self._open)

    def quota_of(self, own: OwnLimits, group: str = "inference") -> Quota:
        """The limits in force for a key; what only reads has none, what manages no budget."""
        if group == "read":
            return Quota()
        quota = Quota.of(own, self.defaults)
        return quota.without_budget if group == "manage" else quota

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Limits]:
        """Renew what is open for the length of a block; entered when the store admits, or 3 s."""
        if not self.store.is_shared:
            yield self
            return
        heartbeat = Heartbeat(self.store, self.spending, self._charges)
        async with running(heartbeat.run):
            with anyio.move_on_after(START):
                await heartbeat.is_ready.wait()
            yield self

    def lease(self, quota: Quota, meter: Meter) -> Leasing:
        """What a request holds, for the length of the block; at first nothing."""
        return Leasing(self, Lease(meter, quota))

    async def enter(self, lease: Lease, *, may_be_free: bool = False) -> None:
        """Hold a request's places before its body is read; raises LimitReached, Unavailable.

        It is refused too where the budget has no token left, unless it may turn out to need none.
        """
        quota = lease.quota.without_budget if may_be_free else lease.quota
        if not quota.is_empty:
            meter, least = lease.meter, int(quota.has_budget)
            await self._reserve(
                lease, ReservationRequest(meter.request_id, meter.key_id, quota, least=least)
            )

    async def admit(self, lease: Lease, cost: Cost) -> None:
        """Hold what a call needs, its places too where it has none yet.

        Raises LimitReached, Unavailable, and BadRequest where its tokens have no bound.
        """
        lease.cost = cost
        quota = lease.quota if cost.measure else lease.quota.without_budget
        if quota.has_budget or not (lease.grant or quota.is_empty):
            await self._reserve(lease, self._reservation_request(lease, quota))

    def settle(self, lease: Lease) -> None:
        """Charge what was used and give the rest back; once, then nothing."""
        if lease.is_settled or lease.grant is None:
            return
        lease.is_settled = True
        reservation = lease.grant.reservation
        if reservation.tokens:
            self._note(lease)
        used = lease.used  # as it was noted: what time adds to it is taken once
        self._open.pop(reservation.request_id, None)
        self.store.settle(reservation, used)
        if reservation.tokens:
            self.spending.end(reservation.request_id, used)

    async def statuses(self, key_id: str, own: OwnLimits) -> LimitStatuses:
        """How a key's limits stand; raises Unavailable."""
        quota = self.quota_of(own)
        if quota.is_empty:
            return {}
        usage = await self.store.usage(key_id)
        return usage.statuses(quota)

    async def _reserve(self, lease: Lease, request: ReservationRequest) -> None:
        """Have the store hold it; raises LimitReached, Unavailable."""
        outcome = await self.store.reserve(request)
        if isinstance(outcome, Refusal):
            self.metrics.limited(REASONS[outcome.limit])
            raise refused(outcome, request.quota)
        lease.grant, reservation = outcome, outcome.reservation
        self._open[reservation.request_id] = lease
        if reservation.tokens:
            lease.meter.spender = self.spending.identity
            # A shared store charges nothing before it was told of something.
            bound = 0 if self.store.is_shared else request.prompt
            self.spending.begin(reservation.request_id, reservation.key_id, reservation.day, bound)

    def _reservation_request(self, lease: Lease, quota: Quota) -> ReservationRequest:
        cost, measure, meter = lease.cost, lease.cost.measure, lease.meter
        if measure is None:
            return ReservationRequest(meter.request_id, meter.key_id, quota)
        passes = measure.passes
        lease.prompt = passes * self.prompts.bound(cost.model, measure, cost.context)
        asked = 0 if measure.inputs else measure.asked or self.default_output
        sizes = lease.prompt, passes * asked, passes * min(asked, LEAST)
        has_places = lease.grant is not None
        return ReservationRequest(
            meter.request_id, meter.key_id, quota, *sizes, has_places=has_places
        )

    def _note(self, lease: Lease) -> None:
        """Mark what was counted, and learn from what was reported."""
        meter, measure = lease.meter, lease.cost.measure
        if measure is None or not meter.was_worked_on:
            return
        reported = meter.prompt_tokens
        meter.count(estimate(measure, lease.prompt), lease.answered)
        if reported is None:
            return
        if self.prompts.learn(lease.cost.model, measure, lease.prompt, reported):
            self.metrics.underestimated(lease.cost.model)
            log.warning(
                "a prompt had more tokens than its bound",
                model=lease.cost.model,
                bound=lease.prompt,
                reported=reported,
            )

    def _charges(self) -> Sequence[tuple[Reservation, Charge]]:
        return [
            (lease.grant.reservation, lease.charge) for lease in self._open.values() if lease.grant
        ]


@attrs.define(eq=False)
class Leasing:
    """The block of one lease."""

    limits: Limits
    lease: Lease

    def __enter__(self) -> Lease:
        return self.lease

    def __exit__(self, *_: object) -> None:
        self.limits.settle(self.lease)
