"""The limits of keys: `quota.py` defines them, `leases.py` applies them to requests."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

from ollama_gateway import clock
from ollama_gateway.limits.calendar import Moment, moment, utc_now
from ollama_gateway.limits.leases import Limiter
from ollama_gateway.limits.memory import MemoryQuota
from ollama_gateway.limits.quota import Quota, QuotaStore
from ollama_gateway.limits.usage_journal import (
    Contribution,
    Elsewhere,
    Totals,
    UsageJournal,
    contributions_of,
    open_usage_journal,
    read_contributions,
)
from ollama_gateway.metrics import Metrics
from ollama_gateway.storage.batcher import Runner, in_thread


@asynccontextmanager
async def open_limits(
    directory: Path,
    redis_url: str | None,
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
        redis_url: as in the settings.
        defaults: the limits of keys that set none.
        default_output: tokens reserved for an answer that its client does not bound.
        metrics: counts refusals and underestimated prompts.
        elsewhere: finds the totals of usage journals that are lost.
        runner: where blocking work runs.
        now: the wall clock.

    Raises:
        SpendingError: the usage journal cannot be opened.

    """
    async with open_usage_journal(directory, runner=runner, now=now) as usage_journal:
        recorded = partial(runner, partial(read_contributions, directory, usage_journal.identity))
        opened = _open_store(redis_url, usage_journal, recorded, elsewhere or _nothing, runner, now)
        async with opened as store:
            limits = Limiter(store, usage_journal, defaults, default_output, metrics)
            async with limits.opened():
                yield limits


@asynccontextmanager
async def _open_store(
    redis_url: str | None,
    usage_journal: UsageJournal,
    recorded: Callable[[], Awaitable[Sequence[Contribution]]],
    elsewhere: Elsewhere,
    runner: Runner,
    now: Callable[[], datetime],
) -> AsyncIterator[QuotaStore]:
    if redis_url is None:
        lost = contributions_of(await elsewhere() or {})
        spent = _sum([_own(usage_journal), *await recorded(), *lost])
        yield MemoryQuota(partial(_moment, now), spent)
        return
    from ollama_gateway.limits.redis.scripts import RedisScripts  # noqa: PLC0415
    from ollama_gateway.limits.redis.store import RedisQuota  # noqa: PLC0415

    async def contributions() -> Sequence[Contribution]:
        dead = [contribution for contribution in await recorded() if not contribution.is_alive]
        return [_own(usage_journal), *dead]  # its own last: its totals are those of this moment

    quota = RedisQuota(RedisScripts(redis_url), contributions, elsewhere, runner=runner)
    async with quota.opened() as store:
        yield store


async def _nothing() -> Mapping[str, Totals]:
    return {}


def _own(usage_journal: UsageJournal) -> Contribution:
    return Contribution(usage_journal.identity, usage_journal.totals(), is_alive=True)


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


def _moment(now: Callable[[], datetime]) -> Moment:
    return moment(clock.now(), now())
