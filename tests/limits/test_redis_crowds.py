"""Many requests at once, over one gateway and over several: exactly the limit is admitted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest

from ollama_gateway.limits.quota import Grant, LimitRefusal, Quota
from tests.limits.faults import Gateway, begin, by_hand, gateway, outcome_of, request_for, status
from tests.support.patience import until

CROWD = 1000


@asynccontextmanager
async def gateways(url: str, count: int) -> AsyncIterator[Sequence[Gateway]]:
    """Run several gateways on one Redis."""
    begin(url)
    async with AsyncExitStack() as stack:
        made = [gateway(url, f"gateway {number}") for number in range(count)]
        yield [await stack.enter_async_context(each) for each in made]


async def crowd(made: Sequence[Gateway], quota: Quota) -> list[Grant | LimitRefusal]:
    """Send a thousand requests at once and return the answers."""
    outcomes: list[Grant | LimitRefusal] = []

    async def one(number: int) -> None:
        outcomes.append(await outcome_of(made[number % len(made)], f"r{number}", quota))

    async with anyio.create_task_group() as tasks:
        for number in range(CROWD):
            tasks.start_soon(one, number)
    return outcomes


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize(
    ("quota", "granted", "limit"),
    [
        (Quota(concurrent_requests=4), 4, "concurrency"),
        (Quota(requests_per_minute=7), 7, "rate"),
        (Quota(tokens_per_day=2050), 20, "day"),
        (Quota(tokens_per_month=2050, concurrent_requests=500), 20, "month"),
    ],
)
async def test_a_thousand_at_once_are_granted_what_there_is(
    redis_url: str, count: int, quota: Quota, granted: int, limit: str
) -> None:
    """The store grants exactly the limit, and settled requests leave nothing behind."""
    async with gateways(redis_url, count) as made:
        outcomes = await crowd(made, quota)
        grants = [outcome for outcome in outcomes if isinstance(outcome, Grant)]
        refusals = {outcome.limit for outcome in outcomes if isinstance(outcome, LimitRefusal)}
        assert (len(grants), refusals) == (granted, {limit})
        for grant in grants:
            made[0].quota.settle(grant.reservation, 10)
        for each in made:
            await each.ready()
        await until(lambda: status(redis_url)[0] == 0)
    assert status(redis_url)[1] == (10 * granted if quota.has_budget else 0)


@pytest.mark.parametrize("server", ["redis", "cluster"])
async def test_a_life_of_a_request(request: pytest.FixtureRequest, server: str) -> None:
    """Every operation works, on a Redis and on one that is a cluster of one node."""
    url: str = request.getfixturevalue(f"{server}_url")
    begin(url)
    async with by_hand(url) as one:
        quota = Quota(10, 2, 1000, 2000)
        first = await one.reserve(request_for("first", quota))
        await one.reserve(request_for("second", quota, 200))
        refusal = await one.quota.reserve(request_for("third", quota))
        assert isinstance(refusal, LimitRefusal)
        assert refusal.limit == "concurrency"
        await one.beat()
        usage = await one.quota.usage(first.reservation.key_id)
        assert (usage.admissions, usage.open, usage.day, usage.month) == (2, 2, 300, 300)
        one.settle("first", 40)
        await one.beat()
        usage = await one.quota.usage(first.reservation.key_id)
        assert (usage.open, usage.day) == (1, 240)
    assert status(url) == (1, 240)
