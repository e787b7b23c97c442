"""Commands that Redis runs after the client gave up change nothing, for two reasons."""

from __future__ import annotations

import signal

import pytest

from ollama_gateway.limits.quota import Renewal, Reservation
from ollama_gateway.limits.redis.operations import RedisOperation, Renew, Reserve, Settle
from ollama_gateway.limits.redis.scripts import QuotaRedisDown
from tests.limits.faults import (
    HASTY,
    KEY,
    by_hand,
    calls,
    connected,
    gateway,
    refused,
    request_for,
    run,
    status,
)
from tests.limits.proxy import proxy_to
from tests.support.patience import until
from tests.support.redis_server import RedisServer

UNKNOWN = Reservation("a", KEY, 0, 0, 0)


async def given_up(server: RedisServer, asked: RedisOperation) -> None:
    """Send a command to a hung Redis, give up on it, and let Redis run it all the same."""
    with connected(server.url, HASTY) as scripts:
        scripts.run([])
        before = calls(server.url)
        server.signal(signal.SIGSTOP)
        with pytest.raises(QuotaRedisDown):
            scripts.run([asked])
        server.signal(signal.SIGCONT)
    await until(lambda: calls(server.url) > before)


def redis_now(url: str) -> float:
    """Redis's clock."""
    with connected(url) as scripts:
        return scripts.run([]).time


async def test_redis_does_carry_out_what_was_given_up(server: RedisServer) -> None:
    """The danger is real: without a last moment a late reservation holds its tokens."""
    await given_up(server, Reserve(request_for("a")))

    assert status(server.url) == (1, 100)


async def test_its_last_moment_alone_stops_a_late_reservation(server: RedisServer) -> None:
    """A reservation after its `not_after` changes nothing and leaves nothing."""
    await given_up(server, Reserve(request_for("a"), not_after=redis_now(server.url) + HASTY / 2))

    assert status(server.url) == (0, 0)
    assert run(server.url, Reserve(request_for("b"), not_after=redis_now(server.url) - 0.001)) == [
        None
    ]
    assert status(server.url) == (0, 0)


async def test_its_settlement_alone_stops_a_late_reservation(server: RedisServer) -> None:
    """A reservation after its settlement is refused, without any last moment."""
    assert run(server.url, Settle(UNKNOWN, 0)) == ["unknown"]
    await given_up(server, Reserve(request_for("a")))

    assert status(server.url) == (0, 0)


async def test_its_settlement_alone_ends_a_reservation_that_was_carried_out(
    server: RedisServer,
) -> None:
    """A settlement gives back a reservation that was made after the gateway gave up."""
    await given_up(server, Reserve(request_for("a")))

    assert run(server.url, Settle(UNKNOWN, 0)) == ["open"]
    assert status(server.url) == (0, 0)


async def test_a_late_renewal_does_not_reopen_what_was_settled(server: RedisServer) -> None:
    """A heartbeat that Redis runs after its last moment changes nothing."""
    (granted,) = run(server.url, Reserve(request_for("a")))
    reservation: Reservation = granted.reservation
    run(server.url, Settle(reservation, 30))
    renewal = (Renewal(reservation, 5),)
    await given_up(server, Renew(KEY, renewal, not_after=redis_now(server.url) + HASTY / 2))

    assert run(server.url, Renew(KEY, renewal, not_after=redis_now(server.url) - 0.001)) == [False]
    assert status(server.url) == (0, 30)


async def test_what_a_gateway_gives_up_on_holds_nothing(server: RedisServer) -> None:
    """Requests that a hung Redis received hold nothing once it goes on."""
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


async def test_a_gateway_says_the_last_moment_itself(server: RedisServer) -> None:
    """A request that it gave up on holds nothing, though its settlement cannot reach Redis yet."""
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
