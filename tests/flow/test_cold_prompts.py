"""A hedge that would have to read a long prompt first."""

from __future__ import annotations

import pytest
import trio

from ollama_gateway.flow.hedging import DEFAULT_DELAY, MIN_TIMES, Hedging
from ollama_gateway.simulator import Model, Script, Simulator
from tests.support.scenario import Scenario, open_scenario

SPEED = 1000
"""Tokens a second."""
MODEL = Model("m1:latest", cache=1 << 20, prompt_speed=SPEED, context_length=1 << 20)
HEDGES = {"GATEWAY_RACE_HEDGE_AFTER": "2s", "GATEWAY_RACE_MAX_HEDGE_RATIO": "1"}


def asked(tokens: int, more: int = 0, letter: str = "x") -> dict[str, object]:
    """Return a chat of about so many tokens; `more` are added in a second turn."""
    messages = [{"role": "user", "content": letter * 4 * tokens}]
    if more:
        messages += [
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "y" * 4 * more},
        ]
    return {"model": "m1", "messages": messages}


async def hedges(scenario: Scenario, result: str) -> float:
    """Return how often a hedge had a result."""
    return scenario.gateway.parts.metrics.value("hedges_total", {"result": result}) or 0


def pair() -> dict[str, Simulator]:
    """Return two machines that have the model loaded."""
    simulators = {name: Simulator([MODEL]) for name in "ab"}
    for simulator in simulators.values():
        simulator.load("m1:latest")
    return simulators


async def learn(scenario: Scenario) -> None:
    """Let the gateway see how fast both machines read."""
    _, key = scenario.store.create("boss", endpoints=frozenset({"inference", "manage"}))
    for name in "ab":
        headers = {"x-gateway-backend": name}
        await scenario.ask(body=asked(1500, letter="w"), headers=headers, key=key)


@pytest.mark.virtual_time
async def test_no_hedge_reads_a_prompt_that_is_being_read() -> None:
    """A prompt takes 20 s to read on either machine: a hedge after 2 s could only lose."""
    async with open_scenario(pair(), settings=HEDGES, is_one_tier=True) as scenario:
        await learn(scenario)
        began = trio.current_time()
        reply = await scenario.ask(body=asked(20_000))
        attempts = scenario.records[-1].attempts
        skipped = await hedges(scenario, "cold_prompt")

    assert reply.first_chunk_at is not None
    assert 20 <= reply.first_chunk_at - began < 21
    assert (len(attempts), skipped) == (1, 1)


@pytest.mark.virtual_time
async def test_a_conversation_whose_machine_hangs_is_hedged_once_that_can_win() -> None:
    """Its prompt takes 10 s to read elsewhere, so the hedge waits until it is late by as much."""
    async with open_scenario(pair(), settings=HEDGES, is_one_tier=True) as scenario:
        await learn(scenario)
        first = await scenario.ask(body=asked(10_000))
        own = first.headers["x-gateway-backend"]
        scenario.simulators[own].script(Script(hang_after=0))
        reply = await scenario.ask(body=asked(10_000, 500))
        attempts = scenario.records[-1].attempts

    assert reply.headers["x-gateway-affinity"] == "moved"
    assert [attempt.is_hedge for attempt in attempts] == [False, True]
    assert 10 <= attempts[1].started - attempts[0].started < 14


@pytest.mark.virtual_time
async def test_a_short_prompt_is_hedged_as_ever() -> None:
    """Reading half a second's worth of tokens does not hold a hedge back."""
    async with open_scenario(pair(), settings=HEDGES, is_one_tier=True) as scenario:
        await learn(scenario)
        first = await scenario.ask(body=asked(500))
        scenario.simulators[first.headers["x-gateway-backend"]].script(Script(hang_after=0))
        await scenario.ask(body=asked(500, 10))
        attempts = scenario.records[-1].attempts

    assert [attempt.is_hedge for attempt in attempts] == [False, True]
    assert attempts[1].started - attempts[0].started == pytest.approx(2)


def test_the_delay_of_auto_compares_prompts_of_like_size() -> None:
    """Long prompts that take long do not delay the hedges of short ones, nor the reverse."""
    hedging = Hedging("auto", 0.05)
    for _ in range(MIN_TIMES):
        hedging.observe("m", 0.2, 2_000)
        hedging.observe("m", 20, 400_000)

    assert hedging.delay("m", 4_000) == 0.2
    assert hedging.delay("m", 300_000) == 20
    assert hedging.delay("m", 40_000) == DEFAULT_DELAY
