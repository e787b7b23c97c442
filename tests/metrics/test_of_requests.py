"""What the page says of requests, from end to end."""

from __future__ import annotations

import gzip

import pytest
import trio

from ollama_gateway.simulator import Model, Simulator
from ollama_gateway.simulator.script import Script
from tests.support.scenario import CHAT, Scenario, open_scenario

pytestmark = pytest.mark.virtual_time


async def samples(scenario: Scenario, **headers: str) -> dict[str, float]:
    """Return the samples of the page."""
    reply = await scenario.ask("/metrics", method="GET", is_admin=True, headers=headers)
    assert reply.status == 200
    lines = [line.rpartition(" ") for line in reply.body.decode().splitlines() if line[0] != "#"]
    return {name.removeprefix("ollama_gateway_"): float(value) for name, _, value in lines}


async def test_an_outage_differs_from_a_full_quota() -> None:
    """429, 403 and each kind of 503 are series of their own, by outcome and reason."""
    limited = {"GATEWAY_LIMITS_REQUESTS_PER_MINUTE": "2"}
    async with open_scenario(settings=limited) as scenario:
        await scenario.ask(body={**CHAT, "model": "unheard-of"})
        for simulator in scenario.simulators.values():
            simulator.go_down()
        for _ in range(3):
            await scenario.poll()
        for _ in range(3):
            await scenario.ask()
        found = await samples(scenario)

    for outcome, reason, count in (
        ("refused", "unknown_model", 1),
        ("refused", "backends_down", 3),
    ):
        key = f'request_failures_total{{outcome="{outcome}",reason="{reason}"}}'
        assert found[key] == count, sorted(found)


async def test_streams_alone_have_a_first_chunk() -> None:
    """A whole answer has a duration and no first chunk."""
    async with open_scenario() as scenario:
        await scenario.ask(body={**CHAT, "stream": False})
        before = await samples(scenario)
        await scenario.ask()
        after = await samples(scenario)

    first = 'first_chunk_seconds_count{backend="a",endpoint="/api/chat"}'
    assert first not in before
    assert after[first] == 1
    whole = 'request_duration_seconds_count{endpoint="/api/chat",outcome="completed"}'
    assert (before[whole], after[whole]) == (1, 2)
    assert after['model_request_duration_seconds_count{backend="a",model="m1:latest"}'] == 2


async def test_tokens_by_kind() -> None:
    """The kinds together are the tokens of the records."""
    async with open_scenario() as scenario:
        for _ in range(2):
            await scenario.ask()
        found = await samples(scenario)
        records = scenario.records

    kinds = {
        kind: found[f'tokens_total{{backend="a",kind="{kind}",model="m1:latest"}}']
        for kind in ("input", "cached", "output")
    }
    assert kinds["output"] == sum(record.completion_tokens or 0 for record in records) > 0
    assert kinds["input"] + kinds["cached"] == sum(r.prompt_tokens or 0 for r in records) > 0
    assert kinds["cached"] == sum(record.cached_tokens or 0 for record in records)


async def test_time_in_line_and_stages() -> None:
    """A request that waits is in the stage `line`; its wait is recorded when it ends."""
    slow = {"a": Simulator([Model("m1:latest")])}
    slow["a"].script(Script(before=5.0))
    async with open_scenario(slow, slots=1) as scenario:
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(scenario.ask)
            await trio.sleep(1)
            during = await samples(scenario)
        after = await samples(scenario)

    assert during['requests_in_stage{stage="line"}'] == 1
    assert during['requests_in_stage{stage="racing"}'] == 1
    assert during["waiting"] == 1
    assert after['line_seconds_count{result="served"}'] == 1
    assert after['line_seconds_sum{result="served"}'] >= 4
    assert after['requests_in_stage{stage="line"}'] == 0


async def test_loads_and_loaded_models() -> None:
    """A load is counted with its seconds; what a backend has loaded has its bytes."""
    async with open_scenario({"a": Simulator([Model("m1:latest")])}) as scenario:
        await scenario.ask()
        await scenario.ask()
        await scenario.poll()
        found = await samples(scenario)

    assert found['model_loads_total{backend="a",model="m1:latest"}'] == 1
    assert found['model_load_seconds_count{backend="a"}'] == 1
    assert found['loaded_model_bytes{backend="a",model="m1:latest"}'] > 0


async def test_a_breaker_that_opens_is_seen() -> None:
    """The state of a backend's breaker, its changes, and the store of keys are on the page."""
    async with open_scenario() as scenario:
        scenario.simulators["a"].go_down()
        for _ in range(4):
            await scenario.ask()
        found = await samples(scenario)

    assert found['breaker_state{backend="a"}'] == 2
    assert found['breaker_state{backend="b"}'] == 0
    opened = 'breaker_changes_total{backend="a",change="opened",reason="connect_failed"}'
    assert found[opened] == 1
    assert found['store_up{store="keys"}'] == 1
    assert found['store_operation_seconds_count{store="keys"}'] > 0


async def test_ready_and_degraded() -> None:
    """A gateway whose backends are down is not ready; one of two down is a cause by its word."""
    async with open_scenario() as scenario:
        scenario.simulators["a"].go_down()
        for _ in range(3):
            await scenario.poll()
        one = await samples(scenario)
        scenario.simulators["b"].go_down()
        for _ in range(3):
            await scenario.poll()
        none = await samples(scenario)

    assert (one["ready"], one['degraded{cause="backends_down"}']) == (1, 1)
    assert one['degraded{cause="journal_away"}'] == 0
    assert none["ready"] == 0


async def test_models_without_a_backend_are_counted() -> None:
    """A model that only a dead backend lists has none, while another backend lives."""
    machines = {
        "a": Simulator([Model("m1:latest"), Model("m2:latest")]),
        "b": Simulator([Model("m1:latest")]),
    }
    async with open_scenario(machines) as scenario:
        before = await samples(scenario)
        machines["a"].go_down()
        for _ in range(3):
            await scenario.poll()
        after = await samples(scenario)

    assert (before["models_without_backend"], after["models_without_backend"]) == (0, 1)
    assert after['degraded{cause="models_without_backend"}'] == 1


@pytest.mark.parametrize("is_on", [False, True])
async def test_limits_by_key_only_where_asked_for(*, is_on: bool) -> None:
    """Keys near a limit are shown by id, if the settings say so; their names never are."""
    settings = {
        "GATEWAY_LIMITS_REQUESTS_PER_MINUTE": "5",
        "GATEWAY_LIMITS_METRICS_BY_KEY": str(is_on).lower(),
    }
    async with open_scenario(settings=settings) as scenario:
        for _ in range(4):
            await scenario.ask()
        found = await samples(scenario)
        key_id, name = scenario.records[0].key_id, scenario.records[0].key_name

    near = {sample: value for sample, value in found.items() if "limit_used" in sample}
    assert near == ({f'limit_used_ratio{{key_id="{key_id}",limit="rate"}}': 0.8} if is_on else {})
    assert not [sample for sample in found if f'"{name}"' in sample]


async def test_forms_of_the_answer() -> None:
    """A client gets OpenMetrics and gzip where it asks for them."""
    wanted = {"accept": "application/openmetrics-text", "accept-encoding": "gzip"}
    async with open_scenario() as scenario:
        reply = await scenario.ask("/metrics", method="GET", is_admin=True, headers=wanted)
        plain = await scenario.ask("/metrics", method="GET", is_admin=True)

    assert reply.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert reply.headers["content-encoding"] == "gzip"
    assert gzip.decompress(reply.body).endswith(b"# EOF\n")
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "content-encoding" not in plain.headers
