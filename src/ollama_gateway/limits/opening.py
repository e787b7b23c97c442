"""Open the limits for the length of a block: counted in Redis if there is one, else here."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

import attrs

from ollama_gateway import clock
from ollama_gateway.limits.calendar import Moment, moment, utc_now
from ollama_gateway.limits.contributions import (
    Contribution,
    Elsewhere,
    Totals,
    contributions_of,
    read_contributions,
)
from ollama_gateway.limits.forgiven import Forgiven, Period
from ollama_gateway.limits.leases import Limiter
from ollama_gateway.limits.memory import MemoryQuota
from ollama_gateway.limits.quota import Quota, QuotaStore
from ollama_gateway.limits.usage_journal import UsageJournal, open_usage_journal
from ollama_gateway.metrics import Metrics
from ollama_gateway.storage.batcher import Runner, in_thread

Recorded = Callable[[], Awaitable[Sequence[Contribution]]]
"""Reads the contributions of the usage journals of a directory."""


@attrs.frozen
class RedisLocation:
    """The Redis of the settings."""

    url: str = attrs.field(repr=False)
    timeout: float = 0.25
    """Seconds that it has for an answer."""


@asynccontextmanager
async def open_limits(
    directory: Path,
    redis: RedisLocation | None,
    defaults: Quota,
    default_output: int,
    metrics: Metrics,
    *,
    elsewhere: Elsewhere | None = None,
    runner: Runner = in_thread,
    now: Callable[[], datetime] = utc_now,
) -> AsyncIterator[Limiter]:
    """Enforce limits for the length of a block, counted in Redis if there is one, else here.

    Args:
        directory: holds the usage journals.
        redis: shared by several gateways; None: limits are counted in this process.
        defaults: the limits of keys that set none.
        default_output: tokens reserved for an answer that its client does not bound.
        metrics: count refusals, underestimated prompts, second tries at Redis.
        elsewhere: finds the totals of usage journals that are lost.
        runner: where blocking work runs.
        now: the wall clock.

    Raises:
        SpendingError: the usage journal cannot be opened.

    """
    async with open_usage_journal(directory, runner=runner, now=now) as usage_journal:
        recorded = partial(runner, partial(read_contributions, directory, usage_journal.identity))
        others = elsewhere or _nothing
        if redis is None:
            opened = _in_memory(usage_journal, recorded, others, now)
        else:
            opened = _in_redis(redis, usage_journal, recorded, others, runner, metrics)
        async with opened as store:
            limits = Limiter(store, usage_journal, defaults, default_output, metrics)
            async with limits.opened():
                yield limits


@asynccontextmanager
async def _in_memory(
    usage_journal: UsageJournal,
    recorded: Recorded,
    elsewhere: Elsewhere,
    now: Callable[[], datetime],
) -> AsyncIterator[QuotaStore]:
    lost = contributions_of(await elsewhere() or {})
    contributions = [_own(usage_journal), *await recorded(), *lost]
    forgiven = _all_forgiven(contributions)
    yield MemoryQuota(partial(_moment, now), _sum(contributions), forgiven)


@asynccontextmanager
async def _in_redis(
    location: RedisLocation,
    usage_journal: UsageJournal,
    recorded: Recorded,
    elsewhere: Elsewhere,
    runner: Runner,
    metrics: Metrics,
) -> AsyncIterator[QuotaStore]:
    from ollama_gateway.limits.redis.scripts import RedisScripts  # noqa: PLC0415
    from ollama_gateway.limits.redis.store import RedisQuota  # noqa: PLC0415

    async def contributions() -> Sequence[Contribution]:
        dead = [contribution for contribution in await recorded() if not contribution.is_alive]
        return [_own(usage_journal), *dead]  # its own last: its totals are those of this moment

    scripts = RedisScripts(location.url, timeout=location.timeout)
    quota = RedisQuota(scripts, contributions, elsewhere, runner=runner, metrics=metrics)
    async with quota.opened() as store:
        yield store


async def _nothing() -> Mapping[str, Totals]:
    return {}


def _own(usage_journal: UsageJournal) -> Contribution:
    totals, forgiven = usage_journal.totals(), usage_journal.forgiven()
    return Contribution(usage_journal.identity, totals, is_alive=True, forgiven=forgiven)


def _sum(contributions: Sequence[Contribution]) -> Mapping[str, Mapping[int, int]]:
    """Sum all contributions; if one journal appears twice, use the larger value."""
    journals: defaultdict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    for contribution in contributions:
        for key_id, days in contribution.totals.items():
            journals[contribution.identity, key_id] |= Counter(days)
    found: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for (_, key_id), days in journals.items():
        found[key_id] += days
    return found


def _all_forgiven(contributions: Sequence[Contribution]) -> Forgiven:
    """Sum what all journals have forgiven; each is there once."""
    found: defaultdict[str, Counter[Period]] = defaultdict(Counter)
    for contribution in contributions:
        for key_id, periods in contribution.forgiven.items():
            found[key_id].update(periods)
    return found


def _moment(now: Callable[[], datetime]) -> Moment:
    return moment(clock.now(), now())
