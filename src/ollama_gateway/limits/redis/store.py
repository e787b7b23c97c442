"""Limits counted in Redis for several gateways, and which of its answers count.

Late answers. Redis runs every command that it received, even if the client gave up long ago. So a
reservation and a renewal carry the last moment, by Redis's clock, at which they may have an effect.
A gateway that gives up on a reservation settles it at no tokens: that ends it if it was made, and
leaves a tombstone that refuses it if it is still to come.

Lost data. Redis may come back empty. Then its generation is missing, one gateway begins a new one,
and each gateway joins it before it admits anything: it opens its reservations again and adds the
totals of its usage journal once. The totals include settlements that still wait at that moment, so
these give back their places and charge nothing. Reservations that are settled later were carried
over, and their settlements count. Admissions open once every gateway has had time to notice, and
wait as long as one of them is still adding.
"""

from __future__ import annotations

import math
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio
import attrs

from ollama_gateway.errors import Unavailable
from ollama_gateway.limits.calendar import month_of
from ollama_gateway.limits.contributions import Contribution, Elsewhere, Totals, contributions_of
from ollama_gateway.limits.forgiven import ForgivenUsage
from ollama_gateway.limits.quota import (
    LIMIT_NAMES,
    Grant,
    KeyUsage,
    LimitName,
    LimitRefusal,
    Renewal,
    Reservation,
    ReservationRequest,
)
from ollama_gateway.limits.redis.forgiving import Forgive, contribute_all
from ollama_gateway.limits.redis.operations import (
    OPENING_SECONDS,
    Contribute,
    HasContributed,
    MarkRebuild,
    OpenGeneration,
    ReadUsage,
    Renew,
    Reserve,
    Settle,
    trial,
)
from ollama_gateway.limits.redis.pipeline import Pipeline
from ollama_gateway.limits.redis.scripts import AccountBroken, QuotaRedisDown, RedisScripts
from ollama_gateway.log import get_logger
from ollama_gateway.metrics import Metrics
from ollama_gateway.reasons import Reason
from ollama_gateway.storage.batcher import Runner, in_thread
from ollama_gateway.storage.redis_faults import RedisFault

ELSEWHERE: Final = "elsewhere"
"""Stands for all lost journals, which are asked for once a generation: the query takes long."""
KEYS_A_BATCH: Final = 200
"""Keys that one batch rebuilds: a month of days each takes Redis less than its timeout."""

Contributions = Callable[[], Awaitable[Sequence[Contribution]]]
"""Returns the contributions of usage journals: this process's own as of the return."""

log = get_logger("limits")


@attrs.frozen
class _Joining:
    """A generation being joined, and the contributions as of the start of that."""

    generation: str
    contributions: Sequence[Contribution]
    elsewhere: Mapping[str, Totals] | None
    """Totals of lost journals; None if they are unknown, or were added already."""


class RedisQuota:
    """Counts the limits of all keys in Redis; see `QuotaStore`.

    Args:
        scripts: used by this object alone.
        contributions: returns the totals to add to a Redis that has lost everything.
        elsewhere: finds the totals of usage journals that are lost.
        runner: where blocking calls run.
        metrics: count second tries, and the lateness of this process.

    """

    name: Final = "redis"
    is_shared: Final = True

    def __init__(
        self,
        scripts: RedisScripts,
        contributions: Contributions,
        elsewhere: Elsewhere,
        *,
        runner: Runner = in_thread,
        metrics: Metrics | None = None,
    ) -> None:
        self._pipeline = Pipeline(scripts, runner, metrics or Metrics())
        self._contributions = contributions
        self._elsewhere = elsewhere
        self._carried: set[str] = set()
        """Ids of reservations that were open when Redis lost everything."""
        self._settled: set[str] = set()
        """Ids of reservations settled since the last renewal was composed."""
        self._joining: _Joining | None = None
        self._joined_at = -math.inf

    def __repr__(self) -> str:
        waiting = self.settlements_waiting
        return f"<RedisQuota {self.why_not or 'works'}, {waiting} settlements waiting>"

    @property
    def settlements_waiting(self) -> int:
        """Settlements that Redis has not confirmed."""
        return self._pipeline.settlements_waiting

    @property
    def why_not(self) -> str | None:
        """Why it cannot admit any request now; None if it can."""
        if (fault := self._pipeline.failure) is not None:
            return f"the quota store does not answer: {fault.line}"
        if self._pipeline.state is None:
            return "the quota store does not answer"
        is_rebuilding = self._pipeline.state.is_rebuilding
        if is_rebuilding or not self._pipeline.is_joined or self._opens_in() > 0:
            return "the quota store is being filled again"
        return None

    @property
    def cause(self) -> str | None:
        """The word for the reason why Redis fails; None if it works."""
        return self._pipeline.failure and self._pipeline.failure.word

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[RedisQuota]:
        """Run for the length of a block; at its end, settlements have 5 s to be confirmed."""
        async with self._pipeline.opened():
            yield self

    def allow(self, seconds: float) -> None:
        """Give Redis this long for an answer from now on (`redis.timeout`)."""
        self._pipeline.allow(seconds)

    async def reserve(self, request: ReservationRequest) -> Grant | LimitRefusal:
        """Admit or refuse a request; raises Unavailable in time, see `QuotaStore`."""
        if self.why_not is not None:
            raise _unavailable(max(1.0, self._opens_in()))
        asked = Reserve(request, generation=self._pipeline.joined)
        outcome: Grant | LimitRefusal | None = None
        try:
            outcome = await self._pipeline.ask_in_time(asked)
        except QuotaRedisDown as error:
            raise _unavailable() from error
        finally:
            # After giving up for any reason, the request may have been admitted. One that has its
            # places already is settled by its lease.
            if outcome is None and not request.has_places:
                unknown = Reservation(request.request_id, request.key_id, 0, 0, 0)
                self._pipeline.settle(Settle(unknown, 0, is_unanswered=True, was_sent_twice=True))
        if outcome is None:
            raise _unavailable()
        return outcome

    def settle(self, reservation: Reservation, used: int) -> None:
        """End a reservation at `used` tokens; repeated until Redis has confirmed it."""
        self._pipeline.settle(Settle(reservation, used, reservation.request_id in self._carried))
        self._carried.discard(reservation.request_id)
        self._settled.add(reservation.request_id)

    async def renew(self, read: Callable[[], Sequence[Renewal]]) -> None:
        """Renew the reservations of this process, or join a new generation; raises Unavailable.

        This also finds out whether Redis works, as it needs a write.
        """
        try:
            generation: str = await self._pipeline.ask(OpenGeneration(secrets.token_hex(8)))
            if generation == self._pipeline.joined:
                await self._renew(read())
            else:
                await self._join(generation, read)
        except QuotaRedisDown as error:
            self._pipeline.note(error.fault or RedisFault.OTHER)
            raise _unavailable() from error
        self._pipeline.note(None)

    async def usage(self, key_id: str) -> KeyUsage:
        """Return the use of a key; raises Unavailable, also while Redis is being rebuilt."""
        if self.why_not is not None:
            raise _unavailable(max(1.0, self._opens_in()))
        try:
            usage: KeyUsage | None = await self._pipeline.ask_in_time(
                ReadUsage(key_id, self._pipeline.joined)
            )
        except QuotaRedisDown as error:
            raise _unavailable() from error
        if usage is None:
            raise _unavailable()
        return usage

    async def forgive(
        self, key_id: str, names: Container[LimitName], journal: ForgivenUsage
    ) -> None:
        """Set the usage of a key back to zero; raises Unavailable, also while Redis is rebuilt."""
        if self.why_not is not None:
            raise _unavailable(max(1.0, self._opens_in()))
        wanted = frozenset(name for name in LIMIT_NAMES if name in names)
        known, joined = journal.forgiven_of(key_id), self._pipeline.joined
        try:
            totals = await self._pipeline.ask(
                Forgive(key_id, journal.identity, wanted, known, joined)
            )
            journal.forgive(key_id, totals)
            # If Redis has been lost since, the journal may have been added without this.
            await self._pipeline.ask(Contribute(key_id, journal.identity, {}, totals))
        except QuotaRedisDown as error:
            raise _unavailable() from error

    def _opens_in(self) -> float:
        """Return the seconds until the joined generation opens for admissions."""
        opens = float((self._pipeline.joined or ":0").partition(":")[2]) / 1000
        # If Redis's clock was set back since, the wait is still no longer than an opening.
        longest = self._joined_at + OPENING_SECONDS - anyio.current_time()
        return min(opens - self._pipeline.redis_time(), longest)

    async def _renew(self, renewals: Sequence[Renewal]) -> bool:
        """Renew all, and return whether all were in time; the next heartbeat repeats the others.

        A trial goes with them: without a right, or without memory, Redis may still answer. Raises
        QuotaRedisDown.
        """
        by_key = defaultdict[str, list[Renewal]](list)
        for renewal in renewals:
            by_key[renewal.reservation.key_id].append(renewal)
        settled = self._settled = set[str]()
        reserve, give_back = trial()
        *outcomes, tried = await self._pipeline.submit(
            *(Renew(key_id, tuple(r), settled=settled) for key_id, r in by_key.items()), reserve
        )
        if isinstance(tried, QuotaRedisDown) and tried.fault is not None:
            raise tried
        if isinstance(tried, Grant):
            await self._pipeline.ask(give_back)
        return all(outcome is True or isinstance(outcome, AccountBroken) for outcome in outcomes)

    async def _join(self, generation: str, read: Callable[[], Sequence[Renewal]]) -> None:
        """Open reservations again, and add each contribution once a generation."""
        if self._joining is None or self._joining.generation != generation:
            is_contributed = await self._pipeline.ask(HasContributed(ELSEWHERE, generation))
            elsewhere = None if is_contributed else await self._elsewhere()
            contributions = await self._contributions()
            # No await from the journal's totals to here: so each settlement is either in the
            # totals, or ends a reservation that is carried over.
            self._pipeline.charge_nothing()
            self._carried = {renewal.reservation.request_id for renewal in read()}
            self._joining = _Joining(generation, contributions, elsewhere)
            log.info("joining the quota store", epoch=generation.partition(":")[0])
        if not await self._renew(read()):
            raise QuotaRedisDown(RedisFault.OTHER)
        for contribution in self._joining.contributions:
            await self._contribute(contribution, generation)
            await self._pipeline.ask(HasContributed(contribution.identity, generation, mark=True))
        if self._joining.elsewhere is not None:
            # These are not marked by name: a gateway that has such a journal adds the difference.
            for contribution in contributions_of(self._joining.elsewhere):
                await self._contribute(contribution, generation)
            await self._pipeline.ask(HasContributed(ELSEWHERE, generation, mark=True))
        self._pipeline.joined, self._joined_at = generation, anyio.current_time()
        self._carried = set()

    async def _contribute(self, contribution: Contribution, generation: str) -> None:
        journal_id = contribution.identity
        if await self._pipeline.ask(HasContributed(journal_id, generation)):
            return
        this_month = month_of(int(self._pipeline.redis_time() // 86_400))
        operations = contribute_all(contribution, this_month)
        for start in range(0, len(operations), KEYS_A_BATCH):
            # The mark goes first: no gateway admits until everything is added.
            some = operations[start : start + KEYS_A_BATCH]
            for outcome in await self._pipeline.submit(MarkRebuild(), *some):
                if isinstance(outcome, QuotaRedisDown) and not isinstance(outcome, AccountBroken):
                    raise outcome


def _unavailable(retry_after: float = 1.0) -> Unavailable:
    return Unavailable(
        "the limits cannot be checked now, try again",
        reason=Reason.QUOTA_UNAVAILABLE,
        retry_after=retry_after,
    )
