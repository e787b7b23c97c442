"""The list of loaded models follows the requests that load and unload them."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from ollama_gateway.simulator import Model, Simulator
from ollama_gateway.wire.loading import unloads
from tests.support.scenario import CHAT, Scenario, open_scenario

Clock = trio.testing.MockClock


async def loaded(scenario: Scenario) -> list[str]:
    """Return the names that clients see as loaded."""
    reply = await scenario.ask("/api/ps", method="GET")
    return [entry["name"] for entry in reply.document["models"]]


def polls(scenario: Scenario) -> int:
    """Count the requests for `/api/ps`."""
    return sum(request.path == "/api/ps" for request in scenario.simulators["a"].seen)


async def test_a_load_and_an_unload_are_listed_at_once(autojump_clock: Clock) -> None:
    """The list is right soon after a load and an unload, between two polls."""
    async with (
        open_scenario({"a": Simulator([Model("m1:latest")])}) as scenario,
        trio.open_nursery() as nursery,
    ):
        (backend,) = scenario.gateway.backends.all
        nursery.start_soon(scenario.gateway.parts.discovery.watch_running, backend)
        before = await loaded(scenario)
        await scenario.ask()
        await trio.sleep(0.1)
        after = await loaded(scenario)
        await scenario.ask("/api/generate", {"model": "m1", "keep_alive": 0})
        await trio.sleep(2)
        at_last = await loaded(scenario)
        nursery.cancel_scope.cancel()

    assert (before, after, at_last) == ([], ["m1:latest"], [])


async def test_a_backend_is_asked_once_a_second_at_most(autojump_clock: Clock) -> None:
    """Many loads cause one question a second, and requests for a warm model cause none."""
    async with (
        open_scenario({"a": Simulator([Model("m1:latest")])}) as scenario,
        trio.open_nursery() as nursery,
    ):
        (backend,) = scenario.gateway.backends.all
        nursery.start_soon(scenario.gateway.parts.discovery.watch_running, backend)
        first = polls(scenario)
        for _ in range(50):
            await scenario.ask(body={**CHAT, "keep_alive": 0})
            await trio.sleep(0.1)
        busy = polls(scenario) - first
        await scenario.ask()
        await trio.sleep(10)
        quiet = polls(scenario)
        await scenario.ask()
        await trio.sleep(10)
        assert polls(scenario) == quiet
        nursery.cancel_scope.cancel()

    assert 3 <= busy <= 7


@pytest.mark.parametrize("value", [0, 0.0, "0", "0s", "-0m", "0.0h", "00"])
def test_a_request_that_unloads(value: object) -> None:
    """A `keep_alive` of zero, as a number or a duration, unloads the model."""
    assert unloads({"Keep_Alive": value})


@pytest.mark.parametrize("value", [1, -1, "5m", "0x", "", None, False, [], {}, "0s1"])
def test_a_request_that_does_not(value: object) -> None:
    """Any other value keeps the model, or Ollama refuses it."""
    assert not unloads({"keep_alive": value})
