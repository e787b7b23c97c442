"""Requests that end early: deadlines, leaving clients, drains, lost backends."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from ollama_gateway.simulator import Script, Simulator
from tests.flow.test_scenarios import SLOW, outcome
from tests.support.scenario import CHAT, open_scenario

Clock = trio.testing.MockClock


async def test_a_hanging_backend_that_discovery_loses_is_left(
    autojump_clock: Clock,
) -> None:
    """Three failed polls end the attempts waiting at a backend, and another backend answers."""
    async with open_scenario() as scenario, trio.open_nursery() as nursery:
        scenario.simulators["a"].script(Script(hang_after=0))

        async def lose() -> None:
            await trio.sleep(5)
            for _ in range(3):
                scenario.gateway.backends.failed(scenario.gateway.backends.all[0], "no answer")

        nursery.start_soon(lose)
        reply = await scenario.ask()

    assert (reply.text, reply.ended_at) == ("Hello", 5)
    assert scenario.records[0].attempts[0].reason == "backend_down"


@pytest.mark.parametrize(
    ("setting", "script", "status", "reason", "at"),
    [
        ("FIRST_CHUNK_TIMEOUT", Script(hang_after=0), 504, "first_chunk_timeout", 7),
        ("FIRST_CHUNK_TIMEOUT", Script(before=9), 504, "first_chunk_timeout", 7),
        ("IDLE_TIMEOUT", Script(hang_after=1), 200, "idle_timeout", 7),
        ("TOTAL_TIMEOUT", Script(hang_after=1), 200, "total_timeout", 7),
    ],
)
async def test_deadlines(
    autojump_clock: Clock,
    setting: str,
    script: Script,
    status: int,
    reason: str,
    at: float,
) -> None:
    """The deadline of the current phase cuts a backend that stops answering."""
    async with open_scenario(settings={f"GATEWAY_RACE_{setting}": "7s"}) as scenario:
        scenario.simulators["a"].script(script)
        reply = await scenario.ask()

    assert (reply.status, reply.ended_at) == (status, at)
    assert "error" in reply.lines[-1]
    assert outcome(scenario) == ("timed_out", reason)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("leave_at", [0.5, 1.5, 2.5])
async def test_a_client_that_leaves_ends_the_upstream_request(
    autojump_clock: Clock,
    leave_at: float,
    *,
    stream: bool,
) -> None:
    """The backend sees the client leave at once, before the first chunk or later."""
    async with open_scenario(models=(SLOW,)) as scenario:
        await scenario.ask(body={**CHAT, "stream": stream}, leave_at=leave_at)
        await trio.testing.wait_all_tasks_blocked()
        seen = scenario.simulators["a"].seen[-1]

    assert seen.gone_at == leave_at
    assert outcome(scenario) == ("client_gone", "client_gone")
    relayed = int(leave_at) if stream else 0
    source = "counted" if relayed else None
    assert (scenario.records[0].completion_tokens or 0, scenario.records[0].tokens_source) == (
        relayed,
        source,
    )
    assert scenario.gateway.app.requests_running == 0
    assert scenario.gateway.app.bodies.held == 0


@pytest.mark.parametrize(("drain_at", "status"), [(0.5, 503), (1.5, 200)])
async def test_a_drain_ends_what_is_left_with_an_error(
    autojump_clock: Clock,
    drain_at: float,
    status: int,
) -> None:
    """At the drain's deadline a request gets a 503, or an error event if its answer had begun."""
    async with open_scenario(models=(SLOW,)) as scenario:
        scenario.gateway.app.drain(drain_at)
        reply = await scenario.ask()

    assert (reply.status, reply.ended_at) == (status, drain_at)
    assert reply.lines[-1] == {"error": "the gateway is shutting down"}
    assert outcome(scenario) == ("killed", "draining")


async def test_full_and_unreachable_is_full(autojump_clock: Clock) -> None:
    """Retry-After comes from the backend that can be reached."""
    async with open_scenario() as scenario:
        busy = Script(status=503, error="busy", headers=(("Retry-After", "7"),))
        scenario.simulators["a"].script(busy)
        scenario.simulators["b"].go_down()
        reply = await scenario.ask()

    assert (reply.status, reply.headers["retry-after"]) == (503, "7")


async def test_who_was_never_asked_for_is_told_so(autojump_clock: Clock) -> None:
    """Waiting in line past the first-chunk deadline is a 503; all paused has its own reason."""
    settings = {"GATEWAY_RACE_FIRST_CHUNK_TIMEOUT": "1s"}
    hang = Script(hang_after=0)
    async with (
        open_scenario({"a": Simulator([SLOW])}, slots=1, settings=settings) as scenario,
        trio.open_nursery() as nursery,
    ):
        scenario.simulators["a"].script(hang)
        nursery.start_soon(lambda: scenario.ask(body={**CHAT, "stream": False}, leave_at=5))
        await trio.testing.wait_all_tasks_blocked()
        assert (await scenario.ask()).status == 503
        assert outcome(scenario) == ("refused", "queue_timeout")
        scenario.gateway.backends.pause({"a"})
        assert (await scenario.ask()).status == 503
        assert scenario.records[-1].reason == "backends_paused"
