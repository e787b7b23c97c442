"""The admin routes: health, readiness, metrics and status, with and without a token."""

from __future__ import annotations

import pytest

from tests.support.scenario import Scenario, open_scenario

pytestmark = pytest.mark.virtual_time

TOKEN = {"GATEWAY_SERVER_ADMIN_TOKEN": "operators-only-token"}


async def status_of(scenario: Scenario, path: str, key: str | None = None) -> int:
    """Return the status of an admin route, asked with this key."""
    return (await scenario.ask(path, method="GET", key=key, is_admin=True)).status


async def test_life_and_readiness(scenario: Scenario) -> None:
    """The gateway is always alive, and ready while a backend is up and no drain has begun."""
    assert await status_of(scenario, "/readyz") == 200
    for simulator in scenario.simulators.values():
        simulator.go_down()
    for _ in range(3):
        await scenario.poll()
    scenario.gateway.admin.state.is_draining = True
    reply = await scenario.ask("/readyz", method="GET", is_admin=True)
    alive = await status_of(scenario, "/healthz")

    assert (reply.status, alive) == (503, 200)
    assert reply.document["reasons"] == ["draining", "no backend is up"]


@pytest.mark.parametrize("path", ["/readyz", "/metrics", "/status.json"])
async def test_a_token_where_one_is_set(path: str) -> None:
    """If a token is set, only `/healthz` answers without it; a client's key is no token."""
    async with open_scenario(settings=TOKEN) as scenario:
        assert await status_of(scenario, "/healthz") == 200
        assert await status_of(scenario, path) == 401
        assert await status_of(scenario, path, scenario.key) == 401
        assert await status_of(scenario, path, "operators-only-token") == 200


async def test_figures(scenario: Scenario) -> None:
    """Metrics count requests, first chunks, attempts, refusals and backends."""
    scenario.simulators["a"].go_down()
    await scenario.ask()
    await scenario.ask(body={"model": "nope", "messages": []})
    await scenario.ask(key=None)
    page = (await scenario.ask("/metrics", method="GET", is_admin=True)).body.decode()

    labels = 'backend="b",endpoint="/api/chat",model="m1:latest",outcome="completed"'
    refused = 'backend="-",endpoint="/api/chat",model="-",outcome="refused"'
    for line in (
        f"ollama_gateway_requests_total{{{labels}}} 1.0",
        f"ollama_gateway_requests_total{{{refused}}} 1.0",
        'ollama_gateway_first_chunk_seconds_count{backend="b",endpoint="/api/chat"} 1.0',
        'ollama_gateway_attempts_total{backend="a",result="connect_failed"} 1.0',
        'ollama_gateway_attempts_total{backend="b",result="good"} 1.0',
        'ollama_gateway_refused_total{reason="invalid_key"} 1.0',
        'ollama_gateway_backend_up{backend="b"} 1.0',
    ):
        assert line in page


async def test_status_shows_each_backends_state(scenario: Scenario) -> None:
    """The status says which backends are up, which are not, and why."""
    scenario.simulators["a"].go_down()
    for _ in range(3):
        await scenario.poll()
    status = (await scenario.ask("/status.json", method="GET", is_admin=True)).document

    a, b = status["backends"]
    assert (a["up"], a["error"], a["failed_polls"]) == (False, "cannot connect: refused", 3)
    assert (b["up"], b["error"], b["models"]) == (True, None, 1)
    assert (status["ready"], status["models"], status["requests"]) == (True, 1, 0)
