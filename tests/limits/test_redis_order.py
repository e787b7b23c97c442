"""Settlements and renewals cross: in any order within a batch, an ended request stays ended."""

from __future__ import annotations

import anyio
import pytest

from ollama_gateway.limits.quota import Grant, Quota, Renewal
from ollama_gateway.limits.redis.scripts import RedisScripts
from tests.limits.faults import account_key, begin, by_hand, inside, request_for
from tests.support.patience import PATIENCE

QUOTA = Quota(concurrent_requests=4, tokens_per_day=100_000)


@pytest.mark.parametrize("round_", range(10))
async def test_a_renewal_on_its_way_does_not_undo_a_settlement(redis_url: str, round_: int) -> None:
    """A request that is settled after the renewals were composed is left out of them."""
    begin(redis_url)
    async with by_hand(redis_url) as made:
        granted = await made.quota.reserve(request_for(f"r{round_}", QUOTA))
        assert isinstance(granted, Grant)
        made.open["r"], made.reads = Renewal(granted.reservation, 7), 0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(made.beat)
            while made.reads < 1:  # the first batch, which asks for the generation, is on its way
                await anyio.lowlevel.checkpoint()
            made.open.clear()
            made.quota.settle(granted.reservation, 20)
        await made.beat()
        usage = await made.quota.usage(granted.reservation.key_id)

    assert (usage.open, usage.day) == (0, 20)


async def test_a_broken_account_is_refused_alone(redis_url: str) -> None:
    """Only the key of a broken account is refused; all others are served."""
    begin(redis_url)
    with inside(redis_url) as client:
        client.set(account_key("leases", "broken"), "x")
    async with by_hand(redis_url) as made:
        reservation = (await made.reserve(request_for("good", QUOTA))).reservation
        with pytest.raises(Exception, match="cannot be checked"):
            await made.quota.reserve(request_for("bad", QUOTA, key="broken"))
        made.settle("good", 5)
        await made.beat()
        usage = await made.quota.usage(reservation.key_id)
        waiting = made.quota.settlements_waiting
        why_not = made.quota.why_not

    assert (usage.open, usage.day, waiting, why_not) == (0, 5, 0, None)


async def test_scripts_that_were_flushed_are_loaded_again(redis_url: str) -> None:
    """A server that forgot its scripts gets them again, and no request fails."""
    begin(redis_url)
    async with by_hand(redis_url) as made:
        await made.reserve(request_for("a", QUOTA))
        with inside(redis_url) as client:
            client.script_flush()
        await made.reserve(request_for("b", QUOTA))
        usage = await made.quota.usage("k")
        made.settle("a", 1)
        made.settle("b", 1)

    assert usage.open == 2
    scripts = RedisScripts(redis_url, timeout=PATIENCE)
    assert scripts.run([]).generation == "first:0"
    scripts.close()
