"""Servers for the stores: one Redis for the whole run, one as a cluster's only node."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ollama_gateway.limits.redis import pipeline
from tests.limits.subject import InMemory, Subject, in_redis
from tests.support.patience import PATIENCE
from tests.support.redis_server import redis_server


@pytest.fixture(autouse=True)
def slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Redis have answered lately: between two steps of a test a slow machine takes seconds."""
    monkeypatch.setattr(pipeline, "ANSWERED_LATELY", PATIENCE)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """Run a private Redis."""
    with redis_server() as url:
        yield url


@pytest.fixture(scope="session")
def cluster_url() -> Iterator[str]:
    """Run a private Redis that is a cluster of one node with all slots."""
    with redis_server(cluster=True) as url:
        yield url


@pytest.fixture(params=["memory", "redis", "cluster"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """Run the test on each store, empty."""
    if request.param == "memory":
        yield InMemory()
        return
    url = request.getfixturevalue(f"{request.param}_url")
    with in_redis(url) as found:
        yield found
