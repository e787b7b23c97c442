"""Touches: the stay of a model after an answer whose request could not name one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import trio
import trio.testing

from ollama_gateway.simulator import Model, Script, Simulator
from tests.flow.dialects import CHAT, MESSAGES, SSE
from tests.support.scenario import Scenario, open_scenario

Clock = trio.testing.MockClock
MODELS: Final = tuple(
    Model(name, capabilities=("completion", "embedding"), load_time=20) for name in ("m1", "m2")
)
V1: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    *((speech.path, speech.body) for speech in SSE),
    ("/v1/embeddings", {"model": "m1", "input": "hi"}),
)


@asynccontextmanager
async def touching(
    rule: str = "30m", names: tuple[str, ...] = ("a",), models: tuple[Model, ...] = MODELS
) -> AsyncIterator[Scenario]:
    """Open a scenario whose keys get this rule for the stay, with its watchers of touches."""
    settings = {"GATEWAY_MODELS_DEFAULTS_KEEP_ALIVE": rule}
    given = {name: Simulator(models) for name in names}
    async with (
        open_scenario(given, settings=settings) as scenario,
        trio.open_nursery() as nursery,
    ):
        for backend in scenario.gateway.backends.all:
            nursery.start_soon(scenario.gateway.parts.touches.watch, backend)
        yield scenario
        nursery.cancel_scope.cancel()


def touches(scenario: Scenario, backend: str = "a") -> list[tuple[str, dict[str, Any]]]:
    """Return the touches that a backend got."""
    found = [seen for seen in scenario.simulators[backend].seen if seen.method == "POST"]
    bodies = [(seen.path, json.loads(seen.body)) for seen in found if seen.path[:5] == "/api/"]
    return [(path, body) for path, body in bodies if "keep_alive" in body]


@pytest.mark.parametrize(("path", "body"), V1)
async def test_an_answer_on_v1_is_followed_by_a_touch(
    autojump_clock: Clock, path: str, body: dict[str, Any]
) -> None:
    """The model stays as long as the operator says, and nothing is loaded anew for that."""
    async with touching() as scenario:
        reply = await scenario.ask(path, body)
        await trio.sleep(1)
        simulator = scenario.simulators["a"]
        left, loads = simulator.loaded["m1:latest"] - trio.current_time(), simulator.figures.loads

        text: dict[str, Any] = {"input": []} if path == "/v1/embeddings" else {}
        route = "/api/embed" if text else "/api/generate"
        assert touches(scenario) == [(route, {"model": "m1:latest", **text, "keep_alive": "1800s"})]
    assert (reply.status, loads) == (200, 1)
    assert 1795 < left <= 1800
    assert "x-gateway-changed" not in reply.headers
    assert len(scenario.records) == 1


async def test_a_model_is_touched_once_a_minute(autojump_clock: Clock) -> None:
    """Many answers cause one touch of each model in a minute."""
    async with touching() as scenario:
        for _ in range(25):
            await scenario.ask(CHAT.path, CHAT.body)
            await scenario.ask(CHAT.path, {**CHAT.body, "model": "m2"})
            await trio.sleep(5)
        names = [body["model"] for _, body in touches(scenario)]

    assert (names.count("m1:latest"), names.count("m2:latest")) == (3, 3)


async def test_only_the_backend_that_answered_is_touched(autojump_clock: Clock) -> None:
    """Another machine, which has nothing loaded, is left alone."""
    async with touching(names=("a", "b")) as scenario:
        await scenario.ask(CHAT.path, CHAT.body)
        await trio.sleep(1)
        assert (len(touches(scenario)), touches(scenario, "b")) == (1, [])


@pytest.mark.parametrize(
    ("rule", "sent"), [("client", []), ("max 1h", []), ("min 5m", ["300s"]), ("1h", ["3600s"])]
)
async def test_a_touch_needs_a_rule_from_below(
    autojump_clock: Clock, rule: str, sent: list[str]
) -> None:
    """Where the operator only bounds the stay from above, nothing is sent."""
    async with touching(rule) as scenario:
        await scenario.ask(MESSAGES.path, MESSAGES.body)
        await trio.sleep(1)
        assert [body["keep_alive"] for _, body in touches(scenario)] == sent


async def test_a_request_that_can_name_its_stay_needs_none(autojump_clock: Clock) -> None:
    """On Ollama's own routes the stay is in the request."""
    async with touching() as scenario:
        await scenario.ask("/api/generate", {"model": "m1", "prompt": "hi"})
        await trio.sleep(1)
        assert [body.get("prompt") for _, body in touches(scenario)] == ["hi"]


async def test_an_answer_that_fails_is_followed_by_none(autojump_clock: Clock) -> None:
    """Only a request that was answered to its end prolongs a stay."""
    async with touching() as scenario:
        for script in (Script(status=500), Script(cut_after=1)):
            scenario.simulators["a"].script(script)
            await scenario.ask(CHAT.path, {**CHAT.body, "stream": True})
        await trio.sleep(1)
        assert touches(scenario) == []


async def test_no_touch_brings_back_a_model_that_had_to_go(autojump_clock: Clock) -> None:
    """While the machine loads another model, the one that answered is not asked for."""
    models = tuple(Model(name, load_time=20, first_token=30) for name in ("m1", "m2"))
    async with touching(models=models) as scenario, trio.open_nursery() as nursery:
        nursery.start_soon(scenario.ask, CHAT.path, CHAT.body)
        await trio.sleep(35)
        nursery.start_soon(scenario.ask, CHAT.path, {**CHAT.body, "model": "m2"})
        await trio.sleep(18)
        during = touches(scenario)
        await trio.sleep(60)
        assert (during, [body["model"] for _, body in touches(scenario)]) == ([], ["m2:latest"])


@pytest.mark.parametrize("script", [Script(hang_after=0), Script(status=500), Script(cut_after=0)])
async def test_a_touch_that_fails_harms_nothing(autojump_clock: Clock, script: Script) -> None:
    """It has five seconds; the next one comes a minute later as ever."""
    async with touching() as scenario:
        scenario.simulators["a"].script(script, path="/api/generate")
        replies = []
        for _ in range(2):
            replies.append(await scenario.ask(CHAT.path, CHAT.body))
            await trio.sleep(61)
        assert len(touches(scenario)) == 2
        assert scenario.simulators["a"].loaded["m1:latest"] - trio.current_time() > 1700

    assert [reply.status for reply in replies] == [200, 200]
