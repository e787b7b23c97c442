"""A working day of a team with twelve models on two machines, and how often models are loaded."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs
import trio
import trio.testing

from ollama_gateway.simulator import Model, Simulator
from ollama_gateway.simulator.runners import Limits
from tests.support.scenario import Scenario, open_scenario

Clock = trio.testing.MockClock
GB: Final = 10**9
MODELS: Final = tuple(
    Model(
        f"m{number}",
        size=(4 + number % 4 * 3) * GB,
        load_time=5 + number % 4 * 5,
        first_token=0.5,
        between_tokens=0.5,
        context_length=65_536,
    )
    for number in range(12)
)
MEMORY: Final = 48 * GB
"""Of each machine, for models of 102 GB in all."""
HOURS: Final = 6
MEAN_PAUSE: Final = 100.0
"""Seconds between two requests."""
CLIENTS: Final[tuple[Mapping[str, Any], ...]] = (
    {},
    {"options": {"num_ctx": 8192}},
    {"options": {"num_ctx": 32_768}, "keep_alive": "30m"},
    {"options": {"num_ctx": 4096, "num_gpu": 99, "num_thread": 8}, "keep_alive": "10m"},
    {"options": {"num_ctx": 16_384, "num_batch": 1024}, "keep_alive": -1},
)
"""Clients as their makers or users have set them."""
POLICIES: Final = {
    "client": ("client", "client", "client"),
    "loaded": ("loaded", "client", "client"),
    "strip": ("loaded", "strip", "max 1h"),
}
"""The defaults for `num_ctx`, `load_options` and `keep_alive`; the last are the gateway's own."""


@attrs.frozen
class Day:
    """What the day came to."""

    loads: int
    waited: float
    """Seconds until first chunks, of all requests together."""


def script() -> Iterator[tuple[float, dict[str, Any]]]:
    """Yield each request's pause before it and its body; the same at every call."""
    chance = random.Random(22)  # noqa: S311 - no secret
    passed = 0.0
    while passed < HOURS * 3600:
        pause = chance.expovariate(1 / MEAN_PAUSE)
        passed += pause
        # A few models have most of the requests, as everywhere.
        model = f"m{min(int(chance.expovariate(0.35)), len(MODELS) - 1)}"
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        yield pause, {**body, **chance.choice(CLIENTS)}


async def live(scenario: Scenario) -> None:
    """Send the requests of the day, and wait for the last answer."""

    async def ask(body: dict[str, Any]) -> None:
        reply = await scenario.ask(body=body)
        assert reply.status == 200

    async with trio.open_nursery() as nursery:
        for pause, body in script():
            await trio.sleep(pause)
            nursery.start_soon(ask, body)


async def day(policy: str) -> Day:
    """Live the day under a policy."""
    names = ("NUM_CTX", "LOAD_OPTIONS", "KEEP_ALIVE")
    rules = zip(names, POLICIES[policy], strict=True)
    settings = {f"GATEWAY_MODELS_DEFAULTS_{name}": rule for name, rule in rules}
    settings |= {"GATEWAY_DISCOVERY_INTERVAL": "2m"}
    limits = Limits(parallel=4, memory=MEMORY, context=4096)
    machines = {name: Simulator(MODELS, limits=limits, is_recording=False) for name in ("a", "b")}
    async with (
        open_scenario(machines, settings=settings, is_one_tier=True) as scenario,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(scenario.gateway.watchers["backends"])
        await live(scenario)
        nursery.cancel_scope.cancel()
    loads = sum(machine.figures.loads for machine in machines.values())
    return Day(loads, sum(record.ttft or 0 for record in scenario.records))


async def test_policies_spare_loads(autojump_clock: Clock) -> None:
    """The loaded context spares loads, and so does leaving out the other options."""
    client, loaded, strip = [await day(policy) for policy in POLICIES]

    assert client.loads > loaded.loads > 1.5 * strip.loads
    assert client.waited > loaded.waited > strip.waited
