"""Reservations in two steps, on a Redis that is old, late, wiped or crowded."""

from __future__ import annotations

import signal
from contextlib import AsyncExitStack
from functools import partial

import anyio
import pytest

from ollama_gateway.limits.quota import Grant, LimitRefusal, Quota, Renewal, Reservation
from ollama_gateway.limits.redis.operations import Renew, Reserve
from tests.limits.faults import (
    KEY,
    Gateway,
    account_key,
    by_hand,
    calls,
    flush,
    inside,
    look,
    refused,
    run,
    status,
)
from tests.limits.test_redis_late import given_up, redis_now
from tests.limits.test_redis_wiped import joined
from tests.limits.test_two_steps import places, tokens
from tests.support.patience import until
from tests.support.redis_server import RedisServer


async def test_an_older_gateway_finds_what_it_knows(redis_url: str) -> None:
    """An entry has its old form between the steps and after: an older gateway can end its lease."""
    async with by_hand(redis_url) as one:
        await one.reserve(places("a"))
        with inside(redis_url) as client:
            between = client.hget(account_key("held"), "a")
        reservation = (await one.reserve(tokens("a"))).reservation
        with inside(redis_url) as client:
            after = client.hget(account_key("held"), "a")

    assert between == f"0 {reservation.day} {reservation.month} 0"
    assert after == f"700 {reservation.day} {reservation.month} 0"


async def test_a_late_second_step_holds_nothing(server: RedisServer) -> None:
    """After its last moment, or after the end of its request, a second step changes nothing."""
    run(server.url, Reserve(places("a")))
    late = Reserve(tokens("a"), not_after=redis_now(server.url) - 0.001)
    assert run(server.url, late) == [None]
    assert status(server.url) == (1, 0)

    await given_up(server, Reserve(tokens("a")))
    assert status(server.url) == (1, 700)
    async with by_hand(server.url) as one:
        one.quota.settle(Reservation("a", KEY, 0, 0, 0), 0)
        await one.ready()
    assert status(server.url) == (0, 0)
    assert run(server.url, Reserve(tokens("a"))) == [None]
    assert status(server.url) == (0, 0)


async def test_giving_up_on_the_second_step_keeps_the_places(server: RedisServer) -> None:
    """Its places are kept whatever Redis does; its admission counts, and it ends as any request."""
    async with by_hand(server.url) as one:
        await one.reserve(places("a"))
        before = calls(server.url)
        server.signal(signal.SIGSTOP)
        with anyio.move_on_after(0.1) as given_up_on:
            await one.quota.reserve(tokens("a"))
        assert given_up_on.cancelled_caught
        server.signal(signal.SIGCONT)
        await until(lambda: calls(server.url) > before)
        assert status(server.url) == (1, 700)
        one.settle("a", 0)
        await one.ready()
        usage = look(server.url)
        assert (usage.admissions, usage.open, usage.day) == (1, 0, 0)


async def test_a_wipe_between_the_steps(one: Gateway, redis_url: str) -> None:
    """Requests are refused while Redis is rebuilt; then the place is open, and takes the tokens."""
    await one.reserve(places("a"))
    flush(redis_url)
    await refused(one, "unnoticed")
    await joined(one)
    await one.admits()
    assert status(redis_url) == (1, 0)
    await one.reserve(tokens("a"))
    assert status(redis_url) == (1, 700)
    one.settle("a", 40)
    await one.ready()
    assert status(redis_url) == (0, 40)


async def test_a_wipe_after_the_steps(one: Gateway, redis_url: str) -> None:
    """The places and the tokens of both steps are opened again."""
    await one.reserve(places("a"))
    await one.reserve(tokens("a"))
    flush(redis_url)
    await joined(one)
    assert status(redis_url) == (1, 700)


async def test_a_heartbeat_between_the_steps_may_come_last(redis_url: str) -> None:
    """A renewal read before the second step and run after it takes no tokens away."""
    async with by_hand(redis_url) as one:
        before = (await one.reserve(places("a"))).reservation
        adding = partial(Reserve, tokens("a"), generation="first:0")
        renewal = Renew(KEY, (Renewal(before, 0),))
        outcomes = await one.quota._pipeline.submit(adding(), renewal)
        await one.quota._pipeline.submit(renewal)

    assert isinstance(outcomes[0], Grant)
    assert status(redis_url) == (1, 700)


@pytest.mark.parametrize("count", [1, 4])
async def test_a_crowd_in_two_steps_never_exceeds(redis_url: str, count: int) -> None:
    """Of a hundred, as many get tokens as there are, on four gateways too; all come back."""
    quota = Quota(concurrent_requests=60, tokens_per_day=2050)
    grants: list[Grant] = []
    limits: list[str] = []

    async def one(made: Gateway, name: str) -> None:
        first = await made.quota.reserve(places(name, quota))
        if isinstance(first, LimitRefusal):
            limits.append(first.limit)
            return
        second = await made.quota.reserve(tokens(name, 100, 0, 0, quota))
        if isinstance(second, Grant):
            grants.append(second)
        else:
            limits.append(second.limit)
            made.quota.settle(first.reservation, 0)

    async with AsyncExitStack() as stack:
        names = [f"gateway {number}" for number in range(count)]
        made = [await stack.enter_async_context(by_hand(redis_url, name)) for name in names]
        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(one, made[number % count], f"r{number}")
        for each in made:
            await each.ready()
        assert (len(grants), len(limits)) == (20, 80)
        assert set(limits) <= {"day", "concurrency"}
        await until(lambda: status(redis_url) == (20, 2000))
        for grant in grants:
            made[0].quota.settle(grant.reservation, 10)
        for each in made:
            await each.ready()
    assert status(redis_url) == (0, 200)
