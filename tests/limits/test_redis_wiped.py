"""A Redis that lost everything is rebuilt, to the token, before it admits anything.

The tests run each heartbeat themselves, so that each event falls between two known steps.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress

import anyio
import pytest

from ollama_gateway.errors import Unavailable
from ollama_gateway.limits.quota import Quota
from tests.limits.faults import (
    Gateway,
    by_hand,
    flush,
    gateway,
    look,
    refused,
    request_for,
    spend,
    status,
)
from tests.limits.proxy import Proxy
from tests.support.patience import PATIENCE, until
from tests.support.redis_server import RedisServer


async def joined(one: Gateway) -> None:
    """Run heartbeats until the generation is joined and all settlements are confirmed."""
    with anyio.fail_after(PATIENCE):
        await beaten(one)
        while one.quota.settlements_waiting or not one.quota._pipeline.is_joined:
            await beaten(one)


async def beaten(one: Gateway) -> None:
    """Run one heartbeat, whether it fails or not, and give others time."""
    with suppress(Unavailable):
        await one.beat()
    await anyio.sleep(0.02)


async def test_an_empty_redis_admits_once_it_is_rebuilt(one: Gateway, redis_url: str) -> None:
    """Spent tokens stay spent though Redis forgot them, and admission waits for its time."""
    quota = Quota(tokens_per_day=150)
    await one.reserve(request_for("old", quota))
    one.settle("old", 100)
    await one.beat()
    flush(redis_url)

    await refused(one, "unnoticed")
    assert one.quota.why_not == "the quota store is being filled again"
    await refused(one, "noticed")
    await joined(one)
    assert status(redis_url) == (0, 100)
    with pytest.raises(Unavailable) as refusal:
        await one.quota.reserve(request_for("joined"))
    assert 1 <= (refusal.value.retry_after or 0) <= 1.5
    await one.admits()
    await one.reserve(request_for("fits", quota, 50))
    assert look(redis_url).day == 150
    outcome = await one.quota.reserve(request_for("does not fit", quota, 1))
    assert getattr(outcome, "limit", "granted") == "day"


async def test_two_gateways_rebuild_a_redis_that_was_killed_twice(server: RedisServer) -> None:
    """Each adds its totals and reservations once each time; none needs a restart."""
    async with gateway(server.url, "a") as one, gateway(server.url, "b") as two:
        for made, tokens in ((one, 40), (two, 25)):
            await made.reserve(request_for(f"spent {made.identity}"))
            await made.reserve(request_for(f"open {made.identity}"))
            made.settle(f"spent {made.identity}", tokens)
            await made.ready()
        for _ in range(2):
            server.signal(signal.SIGKILL)
            server.start()
            await until(lambda: one.quota.why_not is not None)
            await until(lambda: two.quota.why_not is not None)
            await one.ready()
            await two.ready()
            assert status(server.url) == (2, 265)
        one.settle("open a", 1)
        two.settle("open b", 2)
        await one.ready()
        await two.ready()
        assert status(server.url) == (0, 68)


async def unnoticed(one: Gateway, url: str, settle: Callable[[], None]) -> None:
    """It ends before the loss is noticed."""
    flush(url)
    settle()
    await one.beat()


async def renewed(one: Gateway, url: str, settle: Callable[[], None]) -> None:
    """It was opened again in the empty Redis by a heartbeat that did not know yet."""
    one.before_read[1] = lambda: flush(url)
    await one.beat()
    assert look(url).open >= 1
    settle()


async def while_journals_are_read(one: Gateway, url: str, settle: Callable[[], None]) -> None:
    """It ends while the store waits for the contributions."""
    flush(url)
    one.before_totals = settle
    await one.beat()


async def after_the_journals(one: Gateway, url: str, settle: Callable[[], None]) -> None:
    """It ends after the journals were read and before it was opened again."""
    flush(url)
    one.before_totals = lambda: one.before_read.update({2: settle})
    await one.beat()


async def after_joining(one: Gateway, url: str, settle: Callable[[], None]) -> None:
    """It ends after the rebuild."""
    flush(url)
    await one.beat()
    settle()


MOMENTS = (unnoticed, renewed, while_journals_are_read, after_the_journals, after_joining)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_request_that_ends_during_a_rebuild_is_charged_once(
    one: Gateway, redis_url: str, moment: Callable[..., object]
) -> None:
    """Its charge comes from the journal or from its settlement, never from both."""
    await spend(one, 40)
    await one.reserve(request_for("ends"))
    await one.reserve(request_for("goes on"))
    await moment(one, redis_url, lambda: one.settle("ends", 30))  # type: ignore[misc]
    await joined(one)
    assert status(redis_url) == (1, 170)
    one.settle("goes on", 5)
    await joined(one)
    assert status(redis_url) == (0, 75)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_wipe_after_a_wipe_charges_nothing_twice(
    one: Gateway, redis_url: str, moment: Callable[..., object]
) -> None:
    """A second wipe treats a reservation that was carried over like any other."""
    await spend(one, 40)
    await one.reserve(request_for("ends"))
    flush(redis_url)
    await joined(one)
    assert status(redis_url) == (1, 140)
    await moment(one, redis_url, lambda: one.settle("ends", 30))  # type: ignore[misc]
    await joined(one)
    assert status(redis_url) == (0, 70)


@pytest.mark.parametrize("read", [1, 2])
async def test_a_wipe_during_a_rebuild(one: Gateway, redis_url: str, read: int) -> None:
    """A contribution counts once, even if part of it was added before; so do later settlements."""
    await spend(one, 40)
    await one.reserve(request_for("ends"))
    await one.reserve(request_for("goes on"))
    flush(redis_url)
    hooks = {read: lambda: flush(redis_url), 3 - read: lambda: one.settle("ends", 30)}
    one.before_totals = lambda: one.before_read.update(hooks)
    await one.beat()
    await joined(one)
    assert status(redis_url) == (1, 170)


async def test_a_lost_answer_during_a_rebuild_charges_once(proxy: Proxy, redis_url: str) -> None:
    """A repeated settlement of a reservation that was carried over changes nothing."""
    async with by_hand(proxy.url) as one:
        await spend(one, 40)
        await one.reserve(request_for("carried-over"))

        def end() -> None:
            proxy.cut_after = b"carried-over"
            one.settle("carried-over", 30)

        await renewed(one, redis_url, lambda: None)
        one.before_totals = lambda: one.before_read.update({2: end})
        await one.beat()
        await joined(one)
        assert proxy.cuts == 1
        assert status(redis_url) == (0, 70)


async def test_a_redis_that_was_emptied_and_cut_off_charges_once(
    proxy: Proxy, redis_url: str
) -> None:
    """After a failure settlements wait until the generation is known."""
    async with by_hand(proxy.url) as one:
        await spend(one, 40)
        await one.reserve(request_for("renewed-unheard"))

        def lose() -> None:
            flush(redis_url)
            proxy.cut_after, proxy.tries = b"renewed-unheard", 2

        one.before_read[1] = lose
        with pytest.raises(Unavailable):
            await one.beat()
        one.settle("renewed-unheard", 30)
        await joined(one)
        assert status(redis_url) == (0, 70)


async def test_what_was_not_opened_again_in_time_is_not_joined(
    one: Gateway, redis_url: str
) -> None:
    """Nothing is admitted beside open requests that Redis does not know yet."""
    await one.reserve(request_for("open"))

    def jump() -> None:
        one.quota._pipeline._scripts.offset += 2 * PATIENCE  # Redis's clock, as it may be set

    flush(redis_url)
    one.before_totals = lambda: one.before_read.update({2: jump})
    with pytest.raises(Unavailable):
        await one.beat()
    assert status(redis_url) == (0, 0)
    await refused(one, "beside it")
    await joined(one)
    assert status(redis_url) == (1, 100)
