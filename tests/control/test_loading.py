"""Loading and unloading a model at one backend, which may say anything."""

from __future__ import annotations

import json

import pytest
import trio
import trio.testing

from ollama_gateway.control.errors import NoSuchThing, WrongInput
from ollama_gateway.control.loading import UNLOAD_SECONDS, HostedModel
from ollama_gateway.errors import GatewayError, Unavailable, UpstreamFailed, UpstreamTimeout
from ollama_gateway.models.policies import LoadPolicies, ModelRules
from ollama_gateway.models.rules import ContextRule, StayRule
from ollama_gateway.simulator import Model, Script, Simulator
from tests.support.scenario import Scenario, open_scenario

Clock = trio.testing.MockClock
OK = b"HTTP/1.1 200 OK\r\ncontent-length: "
NO_RULES = LoadPolicies()
EMBEDS = Model("e1:latest", capabilities=("embedding",))


def hosted(scenario: Scenario, text: str, name: str = "a") -> HostedModel:
    """Find a model at a backend."""
    backend = scenario.gateway.backends.named(name)
    assert backend is not None
    return HostedModel.of(backend, text)


@pytest.mark.parametrize("text", ["m1", "M1:LATEST", "e1"])
async def test_a_model_is_loaded_and_unloaded(autojump_clock: Clock, text: str) -> None:
    """Whatever a model can do, it is in memory afterwards, and then it is not."""
    async with open_scenario(models=(Model("m1:latest"), EMBEDS)) as scenario:
        simulator = scenario.simulators["a"]
        await hosted(scenario, text).load(NO_RULES, 60)
        loaded = [model["name"] for model in (await running(scenario))]
        await hosted(scenario, text).unload()
        left = await running(scenario)
        others = [seen for seen in scenario.simulators["b"].seen if seen.method == "POST"]

    assert loaded == [f"{text[:2].lower()}:latest"]
    assert left == []
    assert others == []
    assert simulator.seen


async def running(scenario: Scenario) -> list[dict[str, object]]:
    """Return what `a` has loaded, as the next poll finds."""
    await scenario.poll()
    backend = scenario.gateway.backends.named("a")
    assert backend is not None
    assert backend.listing is not None
    return list(backend.listing.running.values())


async def test_a_load_follows_the_operators_rules(autojump_clock: Clock) -> None:
    """It gets the context and the stay of the rules; a stay of 0 would unload it, and is left out.

    So the next request finds the model as it needs it.
    """
    rules = ModelRules(ContextRule("exactly", 8192), keep_alive=StayRule("exactly", 7200))
    leaves = ModelRules(keep_alive=StayRule("exactly", 0.0))
    async with open_scenario() as scenario:
        await hosted(scenario, "m1").load(LoadPolicies((("m*", rules),)), 60)
        await hosted(scenario, "m1").load(LoadPolicies((("m*", leaves),)), 60)
        bodies = [
            json.loads(seen.body)
            for seen in scenario.simulators["a"].seen
            if seen.path == "/api/generate"
        ]

    assert bodies == [
        {
            "model": "m1:latest",
            "stream": False,
            "options": {"num_ctx": 8192},
            "keep_alive": "7200s",
        },
        {"model": "m1:latest", "stream": False},
    ]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("m:latest", NoSuchThing, 'a has no model "m:latest" (did you mean m1:latest?)'),
        ("no name", WrongInput, "/model: invalid model name"),
        ("m1:cloud", WrongInput, "/model: runs in Ollama's cloud: no backend loads it"),
        ("\x1b[2J", WrongInput, "/model: invalid model name"),
    ],
)
async def test_a_model_that_cannot_be_loaded(
    autojump_clock: Clock, text: str, error: type[Exception], message: str
) -> None:
    """The error names the nearest model, or says what is wrong; nothing is sent."""
    async with open_scenario() as scenario:
        with pytest.raises(error) as caught:
            hosted(scenario, text)

    assert message in str(caught.value)


async def test_a_backend_that_is_down(autojump_clock: Clock) -> None:
    """It is not asked: the error says at once that it is down."""
    async with open_scenario() as scenario:
        scenario.simulators["a"].go_down()
        for _ in range(3):
            await scenario.poll()
        with pytest.raises(Unavailable, match="backend a is down"):
            hosted(scenario, "m1")


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        (Script(status=500, error="disk\x1b[2J full"), UpstreamFailed, "refused: "),
        (Script(cut_after=0), UpstreamFailed, "broke off its answer"),
        (Script(hang_after=0), UpstreamTimeout, "did not answer in 60 s"),
        (
            Script(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>"),
            UpstreamFailed,
            "Ollama",
        ),
        (
            Script(raw=OK + b"900000\r\n\r\n" + b"x" * 900_000),
            UpstreamFailed,
            "does not answer as an Ollama does",
        ),
        (
            Script(raw=OK + b'13\r\n\r\n{"error":"x"}'),
            UpstreamFailed,
            "refused: x",
        ),
    ],
)
async def test_a_backend_that_fails(
    autojump_clock: Clock, script: Script, error: type[GatewayError], message: str
) -> None:
    """Whatever it does, there is one printable line in time, and no connection stays open."""
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(script, path="/api/generate")
        with pytest.raises(error) as caught:
            await hosted(scenario, "m1").load(NO_RULES, 60)

    assert message in caught.value.message
    assert caught.value.message.startswith("backend a ")
    assert caught.value.message.isprintable()


async def test_who_leaves_ends_a_load(autojump_clock: Clock) -> None:
    """A load whose asker leaves is closed upstream."""
    async with open_scenario({"a": Simulator((Model("m1:latest"),))}) as scenario:
        scenario.simulators["a"].script(Script(hang_after=0), path="/api/generate")
        began = trio.current_time()
        with trio.move_on_after(2) as leaving:
            await hosted(scenario, "m1").load(NO_RULES, 600)
        (backend,) = scenario.gateway.backends.all

        assert leaving.cancelled_caught
        assert trio.current_time() - began < UNLOAD_SECONDS
        assert backend.transport.open_connections == 0
