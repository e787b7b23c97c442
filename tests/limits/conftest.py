"""One Redis for the whole run, one as the only node of a cluster, and gateways on them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ollama_gateway.limits.redis import pipeline
from ollama_gateway.limits.usage_journal import UsageJournal, open_usage_journal
from ollama_gateway.storage.batcher import in_place
from tests.limits.faults import Gateway, begin, by_hand, gateway, ready_redis
from tests.limits.proxy import Proxy, proxy_to
from tests.limits.spent import now
from tests.limits.subject import InMemory, Subject, in_redis
from tests.support.patience import PATIENCE
from tests.support.redis_server import RedisServer, private_redis, redis_server


@pytest.fixture(autouse=True)
def slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Redis have answered lately: between two steps of a test a slow machine takes seconds."""
    monkeypatch.setattr(pipeline, "ANSWERED_LATELY", PATIENCE)


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """Run a private Redis, which no test stops."""
    with private_redis() as server:
        yield server


@pytest.fixture(scope="session")
def cluster_url() -> Iterator[str]:
    """Run a private Redis that is a cluster of one node with all slots."""
    with redis_server(cluster=True) as url:
        yield url


@pytest.fixture
def redis_url(shared_redis: RedisServer) -> str:
    """The URL of the shared Redis, which is empty and admits at once."""
    begin(shared_redis.url)
    return shared_redis.url


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis that the test may stop; it is empty and admits at once."""
    with ready_redis() as started:
        yield started


@pytest.fixture
async def one(redis_url: str) -> AsyncIterator[Gateway]:
    """A gateway on the shared Redis that has joined; the test runs its heartbeats."""
    async with by_hand(redis_url) as made:
        yield made


@pytest.fixture
async def beating(redis_url: str) -> AsyncIterator[Gateway]:
    """A gateway on the shared Redis with a heartbeat."""
    async with gateway(redis_url) as made:
        yield made


@pytest.fixture
async def proxy(shared_redis: RedisServer, redis_url: str) -> AsyncIterator[Proxy]:
    """A connection to the shared Redis that can fail."""
    async with proxy_to(shared_redis) as made:
        yield made


@pytest.fixture
async def usage_journal(tmp_path: Path) -> AsyncIterator[UsageJournal]:
    """A usage journal in the test's directory, which writes without a thread."""
    async with open_usage_journal(tmp_path, runner=in_place, now=now) as opened:
        yield opened


@pytest.fixture(params=["memory", "redis", "cluster"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """Run the test on each store, empty."""
    if request.param == "memory":
        yield InMemory()
        return
    url = request.getfixturevalue(f"{request.param}_url")
    with in_redis(url) as found:
        yield found
