"""Loads with other options, and models that do not fit beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import anyio
import pytest
import trio.testing

from ollama_gateway.simulator import Model, Simulator, memory_server
from ollama_gateway.simulator.runners import Limits
from tests.simulator.client import ask

Clock = trio.testing.MockClock
GB = 10**9


async def chat(
    simulator: Simulator, model: str = "m1", options: Mapping[str, object] = MappingProxyType({})
) -> None:
    """Have a model answer once, with these options."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "hi"}],
        "options": dict(options),
    }
    async with memory_server(simulator) as connect:
        reply = await ask(await connect(), "POST", "/api/chat", body)
    assert reply.status == 200


async def contexts(simulator: Simulator) -> dict[str, Any]:
    """Return the contexts with which models are loaded, as `/api/ps` lists them."""
    async with memory_server(simulator) as connect:
        reply = await ask(await connect(), "GET", "/api/ps")
    return {entry["name"]: entry["context_length"] for entry in reply.document["models"]}


async def test_other_options_load_a_model_anew(autojump_clock: Clock) -> None:
    """The same options are served by the same runner; options of the answer do not matter."""
    simulator = Simulator([Model("m1")])
    loads = []
    for options in ({}, {"top_k": 1}, {"num_ctx": 4096}, {"num_ctx": 4096}, {"num_gpu": 0}, {}):
        await chat(simulator, options=options)
        loads.append(simulator.figures.loads)

    assert loads == [1, 1, 2, 2, 3, 4]


@pytest.mark.parametrize(
    ("options", "context"),
    [({}, 2048), ({"num_ctx": 4096}, 4096), ({"num_ctx": 10**9}, 8192), ({"num_ctx": 0}, 4)],
)
async def test_the_effective_context_is_listed(
    autojump_clock: Clock, options: dict[str, object], context: int
) -> None:
    """It is the server's default or the one asked for, within what the model can have."""
    simulator = Simulator([Model("m1")], limits=Limits(context=2048))
    await chat(simulator, options=options)

    assert await contexts(simulator) == {"m1:latest": context}


async def test_a_load_waits_for_the_requests_of_the_runner(autojump_clock: Clock) -> None:
    """A model that is in use is loaded anew once it is unused."""
    simulator = Simulator([Model("m1", first_token=10, load_time=1)])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(chat, simulator)
        await anyio.sleep(2)
        await chat(simulator, options={"num_ctx": 4096})

    assert (anyio.current_time(), simulator.figures.loads) == (22, 2)


async def test_the_unused_model_that_is_to_go_first_makes_room(autojump_clock: Clock) -> None:
    """Models stay loaded side by side as long as the memory suffices."""
    models = [Model(name, size=4 * GB) for name in ("m1", "m2", "m3")]
    simulator = Simulator(models, limits=Limits(memory=9 * GB))
    for name in ("m1", "m2", "m1", "m3"):
        await chat(simulator, name)
        await anyio.sleep(1)

    assert (set(simulator.loaded), simulator.figures.loads) == ({"m1:latest", "m3:latest"}, 3)


async def test_a_model_in_use_is_not_unloaded_for_another(autojump_clock: Clock) -> None:
    """The load of the other one begins when the answer has ended."""
    models = [Model("m1", size=4 * GB, first_token=10), Model("m2", size=4 * GB)]
    simulator = Simulator(models, limits=Limits(memory=5 * GB))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(chat, simulator, "m1")
        await anyio.sleep(1)
        await chat(simulator, "m2")

    assert (anyio.current_time(), set(simulator.loaded)) == (10, {"m2:latest"})
