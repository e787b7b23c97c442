"""Requests that do nothing but unload a model."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
import trio.testing

from ollama_gateway.keys.key import KeyLimits
from ollama_gateway.simulator import Model, Script, Simulator
from tests.flow.limited import limited
from tests.support.scenario import Scenario, open_scenario

Clock = trio.testing.MockClock
MODELS: Final = (Model("m1", capabilities=("completion", "embedding")),)
STOP: Final[dict[str, Any]] = {"model": "m1", "keep_alive": 0}
"""What `ollama stop` sends to `/api/generate`."""
ZEROS: Final = (0, 0.0, "0", "-0", "0s", "0h0m0s", 1e-12)


def three(*loaded: str) -> dict[str, Simulator]:
    """Return machines of which some have the model loaded."""
    found = {name: Simulator(MODELS) for name in ("a", "b", "c")}
    for name in loaded:
        found[name].load("m1", keep_alive=600)
    return found


def is_loaded(scenario: Scenario) -> dict[str, bool]:
    """Return which machines have the model loaded."""
    return {name: bool(one.loaded) for name, one in scenario.simulators.items()}


def inference(simulator: Simulator) -> list[str]:
    """Return the paths of the requests that were no polls."""
    return [seen.path for seen in simulator.seen if seen.method == "POST"]


@pytest.mark.parametrize("zero", ZEROS, ids=repr)
@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        ("/api/generate", {"prompt": ""}, {"response": ""}),
        ("/api/chat", {"messages": []}, {"message": {"role": "assistant", "content": ""}}),
    ],
)
async def test_a_key_without_manage_unloads_nothing(
    autojump_clock: Clock, path: str, body: dict[str, Any], answer: dict[str, Any], zero: object
) -> None:
    """It is answered as Ollama answers, no machine hears of it, and the record says why."""
    async with open_scenario(three("a", "b")) as scenario:
        reply = await scenario.ask(path, {"model": "M1", **body, "keep_alive": zero})
        asked = [inference(simulator) for simulator in scenario.simulators.values()]

    document = reply.document
    assert document.pop("created_at").endswith("Z")
    assert document == {"model": "M1", **answer, "done": True, "done_reason": "unload"}
    assert (reply.status, reply.headers["x-gateway-changed"]) == (200, "keep_alive")
    assert asked == [[], [], []]
    [record] = scenario.records
    assert (record.outcome, record.reason) == ("completed", "unload_ignored")
    assert (record.changed, record.backend, record.status) == ("keep_alive", None, 200)


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        ("/api/embed", {"input": []}, {"model": "m1", "embeddings": []}),
        ("/api/embeddings", {"prompt": ""}, {"model": "m1", "embedding": []}),
    ],
)
async def test_so_are_embeddings_of_nothing(
    autojump_clock: Clock, path: str, body: dict[str, Any], answer: dict[str, Any]
) -> None:
    """Without a text there are no vectors, and the model stays."""
    async with open_scenario(three("a")) as scenario:
        reply = await scenario.ask(path, {**STOP, **body})

        assert (reply.status, reply.document) == (200, answer)
        assert is_loaded(scenario) == {"a": True, "b": False, "c": False}


async def test_it_counts_in_the_rate_and_hides_what_there_is(autojump_clock: Clock) -> None:
    """The key's limits and its models hold for it as for any request."""
    async with limited(KeyLimits(requests_per_minute=2), models=MODELS) as key:
        unknown = await key.ask("/api/generate", {**STOP, "model": "m2"})
        replies = [await key.ask("/api/generate", STOP) for _ in range(3)]

    assert unknown.status == 403
    assert [reply.status for reply in replies] == [200, 200, 429]


async def test_an_answer_that_would_unload_leaves_the_model(autojump_clock: Clock) -> None:
    """A prompt with a stay of nothing is answered, and the model keeps its stay."""
    async with open_scenario(three("a")) as scenario:
        reply = await scenario.ask("/api/generate", {**STOP, "prompt": "hi", "stream": False})

        assert (reply.status, reply.document["response"]) == (200, "Hello")
        assert is_loaded(scenario)["a"]


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
async def test_a_key_with_manage_unloads_everywhere(autojump_clock: Clock, path: str) -> None:
    """Every machine that has the model loaded is asked, no other one is, and all are recorded."""
    async with open_scenario(three("b", "c")) as scenario:
        reply = await scenario.ask(path, STOP, key=scenario.manager())

        assert (reply.status, reply.document["done_reason"]) == (200, "unload")
        assert not any(is_loaded(scenario).values())
        assert inference(scenario.simulators["a"]) == []
    assert "x-gateway-changed" not in reply.headers
    [record] = scenario.records
    assert sorted(attempt.backend for attempt in record.attempts) == ["b", "c"]
    assert sorted(reply.headers["x-gateway-backend"].split(", ")) == ["b", "c"]
    assert record.backend in {"b", "c"}


async def test_a_model_that_no_machine_has_loaded_is_unloaded_once(autojump_clock: Clock) -> None:
    """One machine answers, as Ollama does."""
    async with open_scenario(three()) as scenario:
        reply = await scenario.ask("/api/generate", STOP, key=scenario.manager())
        asked = [len(inference(simulator)) for simulator in scenario.simulators.values()]

    assert (reply.document["done_reason"], asked) == ("unload", [1, 0, 0])


async def test_a_backend_that_is_named_is_the_only_one(autojump_clock: Clock) -> None:
    """A request that names its backend unloads there alone."""
    async with open_scenario(three("a", "b")) as scenario:
        headers = {"x-gateway-backend": "b"}
        reply = await scenario.ask("/api/generate", STOP, key=scenario.manager(), headers=headers)

        assert reply.status == 200
        assert is_loaded(scenario) == {"a": True, "b": False, "c": False}


async def test_one_that_fails_is_told(autojump_clock: Clock) -> None:
    """The others unload all the same, and the client reads that it was not done everywhere."""
    async with open_scenario(three("a", "b", "c")) as scenario:
        scenario.simulators["c"].script(Script(status=500, error="boom"))
        reply = await scenario.ask("/api/generate", STOP, key=scenario.manager())

        assert reply.status == 500
        assert is_loaded(scenario) == {"a": False, "b": False, "c": True}


async def test_one_that_hangs_holds_up_no_other(autojump_clock: Clock) -> None:
    """After ten seconds the client reads that a machine gave no answer."""
    async with open_scenario(three("a", "b", "c")) as scenario:
        scenario.simulators["b"].script(Script(hang_after=0))
        began = trio.current_time()
        reply = await scenario.ask("/api/generate", STOP, key=scenario.manager())

        assert (reply.status, trio.current_time() - began) == (504, 10)
        assert is_loaded(scenario) == {"a": False, "b": True, "c": False}


async def test_a_rule_that_opens_the_stay_opens_unloading(autojump_clock: Clock) -> None:
    """A key without manage unloads everywhere where the defaults let it."""
    settings = {"GATEWAY_MODELS_DEFAULTS_KEEP_ALIVE": "client"}
    async with open_scenario(three("a", "b"), settings=settings) as scenario:
        await scenario.ask("/api/generate", STOP)

        assert not any(is_loaded(scenario).values())


async def test_a_model_with_a_stay_of_its_own_can_still_be_unloaded(autojump_clock: Clock) -> None:
    """A rule for the stay does not hold for who may manage and only wants to unload."""
    settings = {"GATEWAY_MODELS_DEFAULTS_KEEP_ALIVE": "30m"}
    async with open_scenario(three("a"), settings=settings) as scenario:
        await scenario.ask("/api/generate", STOP)
        before = is_loaded(scenario)["a"]
        await scenario.ask("/api/generate", STOP, key=scenario.manager())

        assert (before, is_loaded(scenario)["a"]) == (True, False)


async def test_an_unloading_needs_no_room(autojump_clock: Clock) -> None:
    """It is served at once by a machine whose slots are all taken, whose line is long."""
    model = Model("m1", first_token=1000)
    async with open_scenario({"a": Simulator([model])}, slots=1) as scenario:
        scenario.simulators["a"].load("m1")
        await scenario.poll()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scenario.ask)
            await trio.sleep(1)
            reply = await scenario.ask("/api/generate", STOP, key=scenario.manager())
            assert (reply.status, trio.current_time()) == (200, 1)
            nursery.cancel_scope.cancel()
    assert json.loads(reply.body)["done_reason"] == "unload"
