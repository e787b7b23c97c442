"""Settlements reach Redis in order and once, also at the end of the process."""

from __future__ import annotations

import anyio
import pytest

from ollama_gateway.limits.quota import Grant, Quota, Renewal, Reservation
from ollama_gateway.limits.redis.operations import Reserve
from ollama_gateway.limits.redis.pipeline import CLOSING_SECONDS, MAX_SETTLEMENTS
from ollama_gateway.limits.redis.scripts import RedisScripts
from ollama_gateway.limits.redis.store import RedisQuota
from tests.limits.faults import (
    BEAT,
    HASTY,
    KEY,
    account_key,
    begin,
    by_hand,
    calls,
    gateway,
    inside,
    ready_redis,
    request_for,
    status,
    until,
)
from tests.limits.proxy import Proxy, proxy_to
from tests.smoke.fleet import free_port
from tests.support.patience import PATIENCE

ONE = Quota(concurrent_requests=1)


async def nothing_spent() -> tuple[()]:
    """Return no contribution."""
    return ()


async def nothing_lost() -> dict[str, dict[str, dict[int, int]]]:
    """Return no lost journal."""
    return {}


async def test_a_settlement_is_seen_by_the_next_reservation(redis_url: str) -> None:
    """Of 300 requests, one after the other, none is refused because of the one before."""
    begin(redis_url)
    async with gateway(redis_url) as one:
        for number in range(300):
            await one.reserve(request_for(f"r{number}", ONE))
            one.settle(f"r{number}", 1)
        await one.ready()
    assert status(redis_url) == (0, 0)


async def test_settlements_that_wait_are_bounded() -> None:
    """Without Redis a hundred thousand settlements are kept, and not one more."""
    scripts = RedisScripts(f"redis://127.0.0.1:{free_port()}/0")
    quota = RedisQuota(scripts, nothing_spent, nothing_lost)
    for number in range(MAX_SETTLEMENTS + 10):
        quota.settle(Reservation(f"r{number}", KEY, 1, 1, 1), 1)

    assert quota.settlements_waiting == MAX_SETTLEMENTS
    scripts.close()


async def test_a_gateway_ends_though_redis_is_dead() -> None:
    """Settlements that cannot be confirmed delay the end by their 5 s, and no longer."""
    with ready_redis() as server:
        async with proxy_to(server) as proxy:
            with anyio.fail_after(CLOSING_SECONDS + PATIENCE):
                async with by_hand(proxy.url) as one:
                    await one.reserve(request_for("a"))
                    proxy.is_passable = False
                    one.settle("a", 30)
                    until_then = anyio.current_time()
            assert anyio.current_time() - until_then >= CLOSING_SECONDS - BEAT
            assert one.quota.settlements_waiting == 1


async def test_a_settlement_on_its_way_waits_like_any_other() -> None:
    """A settlement that was on its way when the gateway began to end is repeated like any other."""
    with ready_redis() as server:
        async with proxy_to(server) as proxy, anyio.create_task_group() as tasks:
            async with by_hand(proxy.url, timeout=HASTY) as one:
                await one.reserve(request_for("a"))
                proxy.swallows = True
                one.settle("a", 30)
                await until(lambda: proxy.swallowed == 1)
                assert one.quota.settlements_waiting == 1
                tasks.start_soon(mended_later, proxy)
            assert status(server.url) == (0, 30)
            tasks.cancel_scope.cancel()


async def mended_later(proxy: Proxy) -> None:
    """Let requests pass after two more of them were swallowed."""
    await until(lambda: proxy.swallowed >= 3)
    proxy.swallows = False


@pytest.mark.parametrize("many", [3, 1200])
async def test_settlements_that_redis_refuses_hold_up_no_others(redis_url: str, many: int) -> None:
    """Settlements of a broken account are repeated now and then; all others are confirmed."""
    begin(redis_url)
    async with gateway(redis_url) as one:
        for number in range(many):
            await one.reserve(request_for(f"bad {number}", key="bad"))
        grant = await one.reserve(request_for("good"))
        for field in (f"day:{grant.reservation.day}", f"month:{grant.reservation.month}"):
            with inside(redis_url) as client:
                client.hset(account_key("budget", "bad"), f"{field}:spent", "not a number")
        for number in range(many):
            one.settle(f"bad {number}", 30)
        one.settle("good", 30)

        await until(lambda: status(redis_url) == (0, 30))
        assert one.quota.why_not is None
        await several_beats(redis_url, many)
        with inside(redis_url) as client:
            client.delete(account_key("budget", "bad"))
        await one.ready()


async def several_beats(url: str, refused: int) -> None:
    """For half a second, refused settlements are repeated only at intervals."""
    before = calls(url)
    with anyio.move_on_after(5 * BEAT):
        await anyio.sleep_forever()
    assert calls(url) - before < 40 * min(refused, 1000) + 100


@pytest.mark.parametrize("used", [10**30, 2**63, -5])
async def test_a_hostile_report_harms_its_own_request_only(redis_url: str, used: int) -> None:
    """A backend's report is clamped: the account of its key stays readable, and is charged."""
    begin(redis_url)
    async with by_hand(redis_url) as one:
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

        (outcome,) = one_step(redis_url, Reserve(request_for("next", Quota(requests_per_minute=9))))
        assert isinstance(outcome, Grant)


def one_step(url: str, asked: Reserve) -> list[object]:
    """Run one operation, after all leases ended."""
    scripts = RedisScripts(url, timeout=PATIENCE)
    scripts.offset = 31.0
    try:
        return list(scripts.run([asked]).outcomes)
    finally:
        scripts.close()
