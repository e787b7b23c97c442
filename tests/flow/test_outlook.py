"""What a client reads that no machine can serve now: why, and when to come back."""

from __future__ import annotations

from typing import Final

import pytest
import trio
import trio.testing

from ollama_gateway.backends.evaluation import RouteRequest, evaluate
from ollama_gateway.backends.outlook import Outlook
from ollama_gateway.reasons import Reason
from ollama_gateway.simulator import Model, Script, Simulator
from ollama_gateway.simulator.runners import Limits
from ollama_gateway.wire.names import ModelName
from tests.flow.dialects import CHAT, MESSAGES
from tests.support.scenario import Reply, Scenario, open_scenario

Clock = trio.testing.MockClock
QUEUE: Final = {"GATEWAY_RACE_QUEUE_TIMEOUT": "10s", "GATEWAY_RACE_HEDGE_AFTER": "off"}
BUSY: Final = "busy: no backend that has the model has room, try again"
LOADING: Final = "loading: the model is being loaded, try again"


async def second(scenario: Scenario, path: str = CHAT.path, **more: object) -> Reply:
    """Ask while another request has the only slot; return the answer to the second one."""
    replies = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scenario.ask)
        await trio.sleep(5)
        replies.append(await scenario.ask(path, {**MESSAGES.body, **more}))
        nursery.cancel_scope.cancel()
    return replies[0]


async def test_a_model_that_is_being_loaded(autojump_clock: Clock) -> None:
    """The first load has no estimate; later ones are expected to take as long as the last."""
    simulator = Simulator([Model("m1", load_time=60)])
    async with open_scenario({"a": simulator}, settings=QUEUE, slots=1) as scenario:
        unknown = await second(scenario)
        await scenario.ask()
        await trio.sleep(400)
        await scenario.poll()
        known = await second(scenario)

    assert (unknown.status, unknown.headers["retry-after"]) == (503, "5")
    assert unknown.document["error"] == {
        "message": LOADING,
        "type": "api_error",
        "param": None,
        "code": "loading",
    }
    assert (known.status, known.headers["retry-after"]) == (503, "45")  # 60 s, of which 15 are over
    assert known.document["error"]["message"] == f"{LOADING} in about 45 s"
    assert [record.reason for record in scenario.records].count(Reason.QUEUE_TIMEOUT) == 2


async def test_machines_that_are_busy(autojump_clock: Clock) -> None:
    """Once requests were timed, those in line before it are the estimate."""
    simulator = Simulator([Model("m1", first_token=30)])
    async with open_scenario({"a": simulator}, settings=QUEUE, slots=1) as scenario:
        simulator.load("m1")
        await scenario.poll()
        unknown = await second(scenario)
        await scenario.ask()
        await scenario.poll()
        known = await second(scenario)

    assert (unknown.status, unknown.document["error"]["message"]) == (503, BUSY)
    assert unknown.headers["retry-after"] == "5"
    assert (known.status, known.headers["retry-after"]) == (503, "30")
    assert known.document["error"]["message"] == f"{BUSY} in about 30 s"
    assert known.document["error"]["code"] == "busy"


async def test_every_dialect_says_so(autojump_clock: Clock) -> None:
    """Anthropic's clients read an overload, Ollama's own one line."""
    simulator = Simulator([Model("m1", first_token=30)])
    async with open_scenario({"a": simulator}, settings=QUEUE, slots=1) as scenario:
        simulator.load("m1")
        await scenario.poll()
        anthropic = await second(scenario, MESSAGES.path)
        native = await second(scenario, "/api/chat", stream=False)

    assert anthropic.document["error"] == {"type": "overloaded_error", "message": BUSY}
    assert native.document == {"error": BUSY}


async def test_a_line_that_is_full(autojump_clock: Clock) -> None:
    """Who finds no place in the line reads the same."""
    simulator = Simulator([Model("m1", first_token=30)])
    async with open_scenario({"a": simulator}, slots=1) as scenario:
        simulator.load("m1")
        await scenario.poll()
        scenario.gateway.backends.line.capacity = 0
        reply = await second(scenario)

    assert (reply.status, reply.document["error"]["message"]) == (503, BUSY)
    assert (
        scenario.records[-1].reason == "client_gone" or scenario.records[0].reason == "queue_full"
    )


async def test_a_backend_that_asks_for_time(autojump_clock: Clock) -> None:
    """Its `Retry-After` is the estimate where the wait would be longer than may be."""
    async with open_scenario({"a": Simulator([Model("m1")])}, settings=QUEUE) as scenario:
        full = Script(status=503, error="full", headers=(("Retry-After", "40"),))
        scenario.simulators["a"].script(full)
        first = await scenario.ask(CHAT.path, CHAT.body)
        await trio.sleep(10)
        reply = await scenario.ask(CHAT.path, CHAT.body)

    assert (first.status, first.headers["retry-after"]) == (503, "40")
    assert (reply.status, reply.headers["retry-after"]) == (503, "30")
    assert reply.document["error"]["message"] == f"{BUSY} in about 30 s"


async def test_ollamas_own_words_get_an_estimate(autojump_clock: Clock) -> None:
    """Ollama says that it is busy, and not for how long; the gateway may know."""
    model = Model("m1", load_time=60)
    simulator = Simulator([model], limits=Limits(max_queue=0))
    async with open_scenario({"a": simulator}) as scenario:
        await scenario.ask()
        await trio.sleep(400)
        await scenario.poll()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scenario.ask)
            await trio.sleep(1)
            nursery.start_soon(scenario.ask)
            await trio.sleep(19)
            reply = await scenario.ask(CHAT.path, CHAT.body)
            nursery.cancel_scope.cancel()

    assert (reply.status, reply.headers["retry-after"]) == (503, "40")
    assert "server busy" in reply.document["error"]["message"]


@pytest.mark.parametrize(("load_time", "seconds"), [(0.2, 1), (100_000, 300)])
async def test_an_estimate_is_neither_nothing_nor_for_ever(
    autojump_clock: Clock, load_time: float, seconds: float
) -> None:
    """It is a second at least and five minutes at most."""
    async with open_scenario({"a": Simulator([Model("m1")])}, slots=1) as scenario:
        (backend,) = scenario.gateway.backends.all
        route, now = RouteRequest(ModelName.parse("m1"), "k"), trio.current_time()
        replica = backend.replica_of(route.model)
        replica.load_seconds, replica.has_timed_load, replica.loading_since = load_time, True, now
        found = Outlook.of(evaluate(route, scenario.gateway.backends, now), now)

    assert (found.state, found.seconds) == ("loading", seconds)
