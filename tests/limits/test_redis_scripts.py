"""One connection to Redis: bytes that no Redis sends, and a replica."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import anyio.to_thread
import pytest

from ollama_gateway.limits.quota import Grant
from ollama_gateway.limits.redis.operations import ReadUsage, RedisOperation, Reserve
from ollama_gateway.limits.redis.scripts import AccountBroken, Batch, QuotaRedisDown, RedisScripts
from tests.limits.faults import (
    GARBLED,
    HASTY,
    KEY,
    account_key,
    connected,
    inside,
    request_for,
)
from tests.limits.proxy import Proxy
from tests.support.redis_server import RedisServer


async def in_thread(scripts: RedisScripts, *asked: RedisOperation) -> Batch:
    """Run a batch in a thread, as the proxy lives in the test's own loop."""
    return await anyio.to_thread.run_sync(partial(scripts.run, asked))


@pytest.mark.parametrize("name", GARBLED)
async def test_bytes_of_no_redis_are_a_redis_that_is_down(proxy: Proxy, name: str) -> None:
    """They count as a failure, whatever the client library raises, and spoil no later answer."""
    with connected(proxy.url, HASTY) as scripts:
        for is_connected in (False, True):
            if is_connected:
                assert (await in_thread(scripts)).generation == "first:0"
            proxy.garble = GARBLED[name]
            for _ in range(2):
                with pytest.raises(QuotaRedisDown):
                    await in_thread(scripts, Reserve(request_for("a")), ReadUsage(KEY))
            proxy.garble = None
        (outcome,) = (await in_thread(scripts, Reserve(request_for("b")))).outcomes
        assert isinstance(outcome, Grant)


async def test_a_replica_is_left_for_the_new_master(server: RedisServer) -> None:
    """A master may have become a replica: the next batch opens a new connection."""
    with connected(server.url) as scripts:
        before = connection_of(scripts, [ReadUsage(KEY)])
        assert connection_of(scripts, [ReadUsage(KEY)]) == before
        become(server, "127.0.0.1", "1")
        (outcome,) = scripts.run([Reserve(request_for("a"))]).outcomes
        assert isinstance(outcome, QuotaRedisDown)
        assert connection_of(scripts, []) != before


def become(server: RedisServer, host: str, port: str) -> None:
    """Make the server a replica of another."""
    with inside(server.url) as client:
        client.replicaof(host, port)


def connection_of(scripts: RedisScripts, asked: Sequence[RedisOperation]) -> int:
    """Run a batch and return the number of its connection."""
    scripts.run(asked)
    number: int = scripts._redis.client.client_id()
    return number


async def test_a_broken_account_costs_no_connection(redis_url: str) -> None:
    """An account that fails its key does not make each batch connect anew."""
    with inside(redis_url) as client:
        client.set(account_key("held", "bad"), "x")
    with connected(redis_url) as scripts:
        before = connection_of(scripts, [])
        (outcome,) = scripts.run([Reserve(request_for("a", key="bad"))]).outcomes
        assert isinstance(outcome, AccountBroken)
        assert connection_of(scripts, []) == before
