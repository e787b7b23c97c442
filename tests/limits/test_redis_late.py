"""Commands that Redis runs after the client gave up change nothing, for two reasons."""

from __future__ import annotations

import signal

import pytest

from ollama_gateway.limits.quota import Renewal, Reservation
from ollama_gateway.limits.redis.operations import Operation, Renew, Reserve, Settle
from ollama_gateway.limits.redis.scripts import QuotaRedisDown, RedisScripts
from tests.limits.faults import (
    HASTY,
    KEY,
    by_hand,
    calls,
    gateway,
    ready_redis,
    refused,
    request_for,
    status,
    until,
)
from tests.limits.proxy import proxy_to
from tests.support.patience import PATIENCE
from tests.support.redis_server import RedisServer

UNKNOWN = Reservation("a", KEY, 0, 0, 0)


async def given_up(server: RedisServer, asked: Operation) -> None:
    """Send a command to a hung Redis, give up on it, and let Redis run it all the same."""
    scripts = RedisScripts(server.url, timeout=HASTY)
    scripts.run([])
    before = calls(server.url)
    server.signal(signal.SIGSTOP)
    with pytest.raises(QuotaRedisDown):
        scripts.run([asked])
    server.signal(signal.SIGCONT)
    scripts.close()
    await until(lambda: calls(server.url) > before)


def run(server: RedisServer, *asked: Operation) -> list[object]:
    """Run operations on a connection of their own."""
    scripts = RedisScripts(server.url, timeout=PATIENCE)
    try:
        return list(scripts.run(asked).outcomes)
    finally:
        scripts.close()


def redis_now(server: RedisServer) -> float:
    """Redis's clock."""
    scripts = RedisScripts(server.url, timeout=PATIENCE)
    try:
        return scripts.run([]).time
    finally:
        scripts.close()


async def test_redis_does_carry_out_what_was_given_up() -> None:
    """The danger is real: without a last moment a late reservation holds its tokens."""
    with ready_redis() as server:
        await given_up(server, Reserve(request_for("a")))

        assert status(server.url) == (1, 100)


async def test_its_last_moment_alone_stops_a_late_reservation() -> None:
    """A reservation after its `not_after` changes nothing and leaves nothing."""
    with ready_redis() as server:
        await given_up(server, Reserve(request_for("a"), not_after=redis_now(server) + HASTY / 2))

        assert status(server.url) == (0, 0)
        assert run(server, Reserve(request_for("b"), not_after=redis_now(server) - 0.001)) == [None]
        assert status(server.url) == (0, 0)


async def test_its_settlement_alone_stops_a_late_reservation() -> None:
    """A reservation after its settlement is refused, without any last moment."""
    with ready_redis() as server:
        assert run(server, Settle(UNKNOWN, 0)) == ["unknown"]
        await given_up(server, Reserve(request_for("a")))

        assert status(server.url) == (0, 0)


async def test_its_settlement_alone_ends_a_reservation_that_was_carried_out() -> None:
    """A settlement gives back a reservation that was made after the gateway gave up."""
    with ready_redis() as server:
        await given_up(server, Reserve(request_for("a")))

        assert run(server, Settle(UNKNOWN, 0)) == ["open"]
        assert status(server.url) == (0, 0)


async def test_a_late_renewal_does_not_reopen_what_was_settled() -> None:
    """A heartbeat that Redis runs after its last moment changes nothing."""
    with ready_redis() as server:
        (granted,) = run(server, Reserve(request_for("a")))
        reservation: Reservation = granted.reservation  # type: ignore[attr-defined]
        run(server, Settle(reservation, 30))
        renewal = (Renewal(reservation, 5),)
        await given_up(server, Renew(KEY, renewal, not_after=redis_now(server) + HASTY / 2))

        assert run(server, Renew(KEY, renewal, not_after=redis_now(server) - 0.001)) == [False]
        assert status(server.url) == (0, 30)


async def test_what_a_gateway_gives_up_on_holds_nothing() -> None:
    """Requests that a hung Redis received hold nothing once it goes on."""
    with ready_redis() as server:
        async with gateway(server.url, timeout=HASTY) as one:
            await one.reserve(request_for("streaming"))
            for number in range(2):
                before = calls(server.url)
                server.signal(signal.SIGSTOP)
                await refused(one, f"given up {number}")
                server.signal(signal.SIGCONT)
                await until(lambda before=before: calls(server.url) > before)  # type: ignore[misc]
                await one.ready()
                assert status(server.url) == (1, 100)


async def test_a_gateway_says_the_last_moment_itself() -> None:
    """A request that it gave up on holds nothing, though its settlement cannot reach Redis yet."""
    with ready_redis() as server:
        async with proxy_to(server) as proxy, by_hand(proxy.url, timeout=HASTY) as one:
            before = calls(server.url)
            server.signal(signal.SIGSTOP)
            await refused(one, "given up")
            proxy.is_passable = False
            server.signal(signal.SIGCONT)
            await until(lambda: calls(server.url) > before)
            assert one.quota.settlements_waiting == 1
            assert status(server.url) == (0, 0)
            proxy.is_passable = True
