"""The load of a tier without slots spreads over its backends, in virtual time."""

from __future__ import annotations

from collections import Counter

import attrs
import pytest
import trio
import trio.testing

from ollama_gateway.simulator import Limits, Model, Simulator
from tests.support.scenario import CHAT, Scenario, open_scenario

Clock = trio.testing.MockClock
CHATS = 40
APART = {"GATEWAY_AFFINITY_ENABLED": "false"}
"""Equal requests are not one conversation."""
MODEL = Model("m1:latest", ("tok",) * 20)


def boxes(slots: int, seconds: float, load: float = 3) -> dict[str, Simulator]:
    """Return two equal simulators whose chats take so many seconds; `a` has the model loaded."""
    model = attrs.evolve(MODEL, between_tokens=seconds / len(MODEL.tokens), load_time=load)
    both = {name: Simulator([model], limits=Limits(slots)) for name in "ab"}
    both["a"].load("m1", -1)
    return both


async def chats(scenario: Scenario, count: int, pause: float = 0) -> Counter[str]:
    """Send so many chats, with a pause between two; return how many each backend answered."""
    before = len(scenario.records)
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(scenario.ask)
            await trio.sleep(pause)
    records = scenario.records[before:]
    assert [record.outcome for record in records] == ["completed"] * count
    return Counter(str(record.backend) for record in records)


@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("seconds", [1, 10])
async def test_a_burst_is_shared_by_two_equal_boxes(
    autojump_clock: Clock, slots: int, seconds: float
) -> None:
    """Of 40 chats at once, with the model loaded on one box, each box answers 16 to 24."""
    async with open_scenario(boxes(slots, seconds), is_one_tier=True) as scenario:
        answered = await chats(scenario, CHATS)

    assert set(answered) == {"a", "b"}
    assert all(16 <= count <= 24 for count in answered.values())


@pytest.mark.parametrize(("slots", "learned"), [(1, 1), (2, 2), (4, 4)])
async def test_a_gateway_learns_how_many_are_served_at_once(
    autojump_clock: Clock, slots: int, learned: int
) -> None:
    """As many slots as a backend has are learned from its streams, and shown in the status."""
    async with open_scenario({"a": boxes(slots, 10)["a"]}) as scenario:
        await chats(scenario, 1)
        before = await learned_capacity(scenario)
        await chats(scenario, 4)
        after = await learned_capacity(scenario)

    assert (before, after) == (1, learned)


async def learned_capacity(scenario: Scenario) -> int:
    """Return what the status says of the first backend's model."""
    reply = await scenario.ask("/status.json", method="GET", key=None, is_admin=True)
    (model,) = reply.document["backends"][0]["by_model"].values()
    return int(model["learned_capacity"])


async def test_one_request_at_a_time_pays_for_a_load(autojump_clock: Clock) -> None:
    """A load of a minute is begun by one request; the next ones stay in the shorter line."""
    both = boxes(1, 10, load=60)
    async with (
        open_scenario(both, is_one_tier=True, settings=APART) as scenario,
        trio.open_nursery() as nursery,
    ):
        for _ in range(3):
            nursery.start_soon(scenario.ask)
            await trio.sleep(1)
        in_flight = [backend.in_flight for backend in scenario.gateway.backends.all]

    assert in_flight == [2, 1]


async def second_of_two(scenario: Scenario) -> str:
    """Ask twice at once; return the backend that the second request goes to."""
    records = len(scenario.records)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scenario.ask)
        await trio.sleep(1)
        nursery.start_soon(scenario.ask)
    first, second = scenario.records[records:]
    assert first.backend == "a"
    return str(second.backend)


async def test_a_model_in_use_is_not_evicted(autojump_clock: Clock) -> None:
    """A backend loads the model in place of another once that was unused for five minutes."""
    both = boxes(1, 5)
    both["b"].add_model(Model("other:latest"))
    both["b"].load("other", 3600)
    async with open_scenario(both, is_one_tier=True, settings=APART) as scenario:
        at_first = await second_of_two(scenario)
        await trio.sleep(250)
        both["b"].load("other", 3600)  # another client uses it
        await scenario.poll()
        await trio.sleep(250)
        still = await second_of_two(scenario)
        await trio.sleep(100)
        await scenario.poll()
        at_last = await second_of_two(scenario)

    assert (at_first, still, at_last) == ("a", "a", "b")


async def test_other_names_of_the_same_weights_count_too(autojump_clock: Clock) -> None:
    """Ollama runs a model and its copies in one runner, so they fill one capacity."""
    both = boxes(1, 10)
    copy = attrs.evolve(MODEL, name="copy:latest", between_tokens=1)
    for simulator in both.values():
        simulator.add_model(copy)
    async with open_scenario(both, is_one_tier=True) as scenario, trio.open_nursery() as nursery:
        nursery.start_soon(scenario.ask)
        await trio.sleep(1)
        nursery.start_soon(scenario.ask, "/api/chat", {**CHAT, "model": "copy"})
        await trio.sleep(1)
        in_flight = [backend.in_flight for backend in scenario.gateway.backends.all]

    assert in_flight == [1, 1]
