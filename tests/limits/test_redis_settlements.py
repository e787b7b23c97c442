"""Settlements reach Redis in order and once, also at the end of the process."""

from __future__ import annotations

import anyio
import pytest

from ollama_gateway.limits.quota import Grant, Quota, Renewal, Reservation
from ollama_gateway.limits.redis.operations import Reserve
from ollama_gateway.limits.redis.pipeline import CLOSING_SECONDS, MAX_SETTLEMENTS
from tests.limits.faults import (
    BEAT,
    HASTY,
    KEY,
    Gateway,
    account_key,
    bare_quota,
    begin,
    by_hand,
    calls,
    inside,
    request_for,
    run,
    status,
)
from tests.limits.proxy import Proxy
from tests.smoke.fleet import free_port
from tests.support.patience import PATIENCE, until

ONE = Quota(concurrent_requests=1)
FOUR = Quota(concurrent_requests=4, tokens_per_day=100_000)


async def test_a_settlement_is_seen_by_the_next_reservation(
    beating: Gateway, redis_url: str
) -> None:
    """Of 300 requests, one after the other, none is refused because of the one before."""
    for number in range(300):
        await beating.reserve(request_for(f"r{number}", ONE))
        beating.settle(f"r{number}", 1)
    await beating.ready()
    assert status(redis_url) == (0, 0)


async def test_settlements_that_wait_are_bounded() -> None:
    """Without Redis a hundred thousand settlements are kept, and not one more."""
    quota = bare_quota(f"redis://127.0.0.1:{free_port()}/0")
    for number in range(MAX_SETTLEMENTS + 10):
        quota.settle(Reservation(f"r{number}", KEY, 1, 1, 1), 1)

    assert quota.settlements_waiting == MAX_SETTLEMENTS == 100_000


async def test_a_gateway_ends_though_redis_is_dead(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settlements that cannot be confirmed delay the end by their 5 s, here less, and no longer."""
    assert CLOSING_SECONDS == 5
    monkeypatch.setattr("ollama_gateway.limits.redis.pipeline.CLOSING_SECONDS", 0.5)
    with anyio.fail_after(PATIENCE):
        async with by_hand(proxy.url) as one:
            await one.reserve(request_for("a"))
            proxy.is_passable = False
            one.settle("a", 30)
            until_then = anyio.current_time()
    assert anyio.current_time() - until_then >= 0.5 - BEAT
    assert one.quota.settlements_waiting == 1


async def test_a_settlement_on_its_way_waits_like_any_other(proxy: Proxy, redis_url: str) -> None:
    """A settlement that was on its way when the gateway began to end is repeated like any other."""
    async with anyio.create_task_group() as tasks:
        async with by_hand(proxy.url, timeout=HASTY) as one:
            await one.reserve(request_for("a"))
            proxy.swallows = True
            one.settle("a", 30)
            await until(lambda: proxy.swallowed == 1)
            assert one.quota.settlements_waiting == 1
            tasks.start_soon(mended_later, proxy)
        assert status(redis_url) == (0, 30)
        tasks.cancel_scope.cancel()


async def mended_later(proxy: Proxy) -> None:
    """Let requests pass after two more of them were swallowed."""
    await until(lambda: proxy.swallowed >= 3)
    proxy.swallows = False


@pytest.mark.parametrize("many", [3, 1200])
async def test_settlements_that_redis_refuses_hold_up_no_others(
    beating: Gateway, redis_url: str, many: int
) -> None:
    """Settlements of a broken account are repeated now and then; all others are confirmed."""
    for number in range(many):
        await beating.reserve(request_for(f"bad {number}", key="bad"))
    grant = await beating.reserve(request_for("good"))
    for field in (f"day:{grant.reservation.day}", f"month:{grant.reservation.month}"):
        with inside(redis_url) as client:
            client.hset(account_key("budget", "bad"), f"{field}:spent", "not a number")
    for number in range(many):
        beating.settle(f"bad {number}", 30)
    beating.settle("good", 30)

    await until(lambda: status(redis_url) == (0, 30))
    assert beating.quota.why_not is None
    await several_beats(redis_url, many)
    with inside(redis_url) as client:
        client.delete(account_key("budget", "bad"))
    await beating.ready()


async def several_beats(url: str, refused: int) -> None:
    """For half a second, refused settlements are repeated only at intervals."""
    before = calls(url)
    with anyio.move_on_after(5 * BEAT):
        await anyio.sleep_forever()
    assert calls(url) - before < 40 * min(refused, 1000) + 100


@pytest.mark.parametrize("used", [10**30, 2**63, -5])
async def test_a_hostile_report_harms_its_own_request_only(
    one: Gateway, redis_url: str, used: int
) -> None:
    """A backend's report is clamped: the account of its key stays readable, and is charged."""
    for request_id in ("lied about", "also", "fine"):
        await one.reserve(request_for(request_id))
    for request_id in ("lied about", "also"):
        one.open[request_id] = Renewal(one.open[request_id].reservation, used)
    await one.beat()
    one.settle("lied about", used)
    one.settle("fine", 30)
    await one.beat()
    assert one.quota.settlements_waiting == 0
    charged = status(redis_url)[1]
    assert charged == 130 if used < 0 else charged > 2**52

    after_leases = Reserve(request_for("next", Quota(requests_per_minute=9)))
    (outcome,) = run(redis_url, after_leases, offset=31.0)
    assert isinstance(outcome, Grant)


@pytest.mark.parametrize("round_", range(10))
async def test_a_renewal_on_its_way_does_not_undo_a_settlement(redis_url: str, round_: int) -> None:
    """A request that is settled after the renewals were composed is left out of them."""
    begin(redis_url)
    async with by_hand(redis_url) as made:
        granted = await made.quota.reserve(request_for(f"r{round_}", FOUR))
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
