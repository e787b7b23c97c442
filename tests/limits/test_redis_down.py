"""Faults of Redis and of the connection to it: nothing is admitted, hangs or is lost."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable

import anyio.to_thread
import attrs
import pytest

from ollama_gateway.errors import Unavailable
from ollama_gateway.limits.quota import Quota
from tests.limits.faults import (
    GARBLED,
    HASTY,
    gateway,
    inside,
    look,
    ready_redis,
    refused,
    request_for,
    status,
)
from tests.limits.proxy import Proxy, proxy_to
from tests.smoke.fleet import free_port
from tests.support.patience import until
from tests.support.redis_server import RedisServer, private_redis


@attrs.frozen
class Fault:
    """A fault, and its end."""

    begins: Callable[[RedisServer, Proxy], object]
    ends: Callable[[RedisServer, Proxy], object]


def command(*words: str | int) -> Callable[[RedisServer, Proxy], object]:
    """Send a command to Redis itself."""

    def say(server: RedisServer, proxy: Proxy) -> object:
        with inside(server.url) as client:
            return client.execute_command(*words)

    return say


def sent(number: signal.Signals) -> Callable[[RedisServer, Proxy], object]:
    """Send Redis a signal."""
    return lambda server, _: server.signal(number)


def way(**state: object) -> Callable[[RedisServer, Proxy], object]:
    """Change the connection to Redis."""

    def change(server: RedisServer, proxy: Proxy) -> None:
        for name, value in state.items():
            setattr(proxy, name, value)

    return change


FAULTS = {
    "killed": Fault(sent(signal.SIGKILL), lambda server, _: server.start()),
    "hung": Fault(sent(signal.SIGSTOP), sent(signal.SIGCONT)),
    "unreachable": Fault(way(is_passable=False), way(is_passable=True)),
    "slow": Fault(way(delay=2 * HASTY), way(delay=0)),
    "a replica of a dead master": Fault(
        command("REPLICAOF", "127.0.0.1", 1), command("REPLICAOF", "NO", "ONE")
    ),
    **{
        name: Fault(way(garble=GARBLED[name]), way(garble=None))
        for name in ("half a reply", "always OK")
    },
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_redis_that_fails_admits_nothing_and_loses_nothing(
    server: RedisServer, name: str
) -> None:
    """A request is refused as unavailable; requests that end meanwhile are charged afterwards."""
    fault = FAULTS[name]
    async with proxy_to(server) as proxy, gateway(proxy.url, timeout=HASTY) as one:
        for request_id in ("ended", "streaming"):
            await one.reserve(request_for(request_id))
        await one.reserve(request_for("ends during the fault"))
        one.settle("ended", 7)
        await one.ready()

        fault.begins(server, proxy)
        await refused(one, "r1")
        one.settle("ends during the fault", 30)
        await one.missed(2)
        await refused(one, "r2")
        assert one.quota.settlements_waiting >= 1

        fault.ends(server, proxy)
        await one.ready()
        await until(lambda: status(server.url) == (1, 137))
        await one.reserve(request_for("after"))
        one.settle("after", 3)
        one.settle("streaming", 50)
        await one.ready()
        assert status(server.url) == (0, 90)


async def test_a_redis_that_was_never_there() -> None:
    """A gateway that starts without Redis admits nothing until Redis comes."""
    port = free_port()
    async with gateway(f"redis://127.0.0.1:{port}/0", waits=False) as one:
        await refused(one, "before")
        with private_redis(port=port) as server:
            await one.ready()
            await one.reserve(request_for("after"))
            assert status(server.url) == (1, 100)


async def test_a_redis_that_is_full(server: RedisServer) -> None:
    """Without memory nothing is admitted, and requests that end are counted all the same."""
    async with gateway(server.url) as one:
        await one.reserve(request_for("a"))
        with inside(server.url) as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", 1)
        await until(lambda: one.quota.why_not is not None)
        await refused(one, "b")
        one.settle("a", 30)
        with inside(server.url) as client:
            client.config_set("maxmemory", 0)

        await one.ready()
        assert status(server.url) == (0, 30)
        await one.reserve(request_for("c"))


async def test_a_redis_that_is_full_does_not_admit_uncounted(server: RedisServer) -> None:
    """Until the heartbeat finds it full, all admitted requests are counted."""
    async with gateway(server.url) as one:
        with inside(server.url) as client:
            client.config_set("maxmemory", 1)
        grants = 0
        while one.quota.why_not is None:
            await one.reserve(request_for(f"r{grants}"))
            grants += 1
        await until(lambda: status(server.url) == (grants, 100 * grants))
        with inside(server.url) as client:
            client.config_set("maxmemory", 0)
        await one.ready()


async def test_a_redis_that_is_loading() -> None:
    """While it reads its data nothing is admitted; then all of its old data counts."""
    with ready_redis("--key-load-delay", "100000", "--rdbcompression", "no") as server:
        async with gateway(server.url) as one:
            await one.reserve(request_for("a"))
            with inside(server.url) as client:
                for number in range(16):  # it looks at its connections every 2 MiB
                    client.set(f"ballast {number}", "x" * 2_200_000)
                client.save()
            server.signal(signal.SIGKILL)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.to_thread.run_sync, server.start)
                await until(lambda: is_loading(server.port))
                await refused(one, "b")
                one.settle("a", 30)
                assert is_loading(server.port)
            await one.ready()
            assert status(server.url) == (0, 30)


def is_loading(port: int) -> bool:
    """Whether Redis says that it is loading; without a handshake, which would take as long."""
    try:
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"EXISTS x\r\n")
            return sock.recv(100).startswith(b"-LOADING")
    except OSError:
        return False


@pytest.mark.parametrize("passing", [0.0, 0.5])
async def test_a_reservation_whose_answer_is_lost_is_taken_back(
    proxy: Proxy, redis_url: str, passing: float
) -> None:
    """A request that Redis admitted unbeknown to the gateway ends, and leaves no admission."""
    quota = Quota(1, 1, 100, 100)
    async with gateway(proxy.url) as one:
        proxy.cut_after, proxy.passing, proxy.tries = b"lost-reservation", passing, 2
        with pytest.raises(Unavailable):
            await one.quota.reserve(request_for("lost-reservation", quota))
        assert proxy.cuts == 2
        await one.ready()
        usage = look(redis_url)
        assert (usage.admissions, usage.open, usage.day) == (0, 0, 0)
        await one.reserve(request_for("again", quota))


async def test_a_settlement_whose_answer_is_lost_is_charged_once(
    proxy: Proxy, redis_url: str
) -> None:
    """The settlement is repeated, and the second one changes nothing."""
    async with gateway(proxy.url) as one:
        await one.reserve(request_for("lost-settlement"))
        await one.ready()
        proxy.cut_after = b"lost-settlement"
        one.settle("lost-settlement", 30)
        await until(lambda: proxy.cuts == 1)
        await one.ready()
        assert status(redis_url) == (0, 30)


async def test_a_renewal_whose_answer_is_lost_changes_nothing(proxy: Proxy, redis_url: str) -> None:
    """The renewal is repeated, and counts once."""
    async with gateway(proxy.url) as one:
        await one.reserve(request_for("lost-renewal"))
        proxy.cut_after = b"lost-renewal"
        await until(lambda: proxy.cuts == 1)
        await one.ready()
        assert status(redis_url) == (1, 100)
        one.settle("lost-renewal", 30)
        await one.ready()
        assert status(redis_url) == (0, 30)


async def test_a_redis_that_fails_again_and_again(proxy: Proxy, redis_url: str) -> None:
    """The gateway loses the connection to Redis five times, and finds it again five times."""
    async with gateway(proxy.url) as one:
        for number in range(5):
            proxy.is_passable = False
            await refused(one, f"refused {number}")
            proxy.is_passable = True
            await one.ready()
            await one.reserve(request_for(f"granted {number}"))
        assert status(redis_url) == (5, 500)
