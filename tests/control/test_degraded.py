"""What a ready gateway lacks: `/readyz` and `/status.json` say so, and stay at ready."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
import trio.testing

from ollama_gateway.control.degraded import shown_for
from ollama_gateway.simulator import Model, Simulator
from tests.support.scenario import Reply, Scenario, open_scenario

Clock = trio.testing.MockClock
DOWN = "1 of 2 backends down: a (cannot connect: refused, 4 min)"


async def readiness(scenario: Scenario, host: str = "localhost") -> Reply:
    """Ask `/readyz` by this name."""
    headers = {"host": host}
    return await scenario.ask("/readyz", method="GET", is_admin=True, headers=headers)


async def go_down(scenario: Scenario, name: str, seconds: float = 0) -> None:
    """Take a backend down after its last good poll was so long ago."""
    await scenario.poll()
    scenario.simulators[name].go_down()
    await trio.sleep(seconds)
    for _ in range(3):
        await scenario.poll()


async def test_a_backend_that_is_down(autojump_clock: Clock) -> None:
    """It is named, with the reason and the time; the gateway stays ready."""
    async with open_scenario() as scenario:
        before = (await readiness(scenario)).document
        await go_down(scenario, "a", 250)
        found = await readiness(scenario)
        status = (await scenario.ask("/status.json", method="GET", is_admin=True)).document

    assert before == {"ready": True, "reasons": [], "degraded": []}
    assert (found.status, found.document) == (200, {**before, "degraded": [DOWN]})
    assert (status["ready"], status["degraded"]) == (True, [DOWN])


async def test_models_without_a_live_backend(autojump_clock: Clock) -> None:
    """Models that only a backend lists which is down are named, at most three of them."""
    only = [Model(f"only-{number}:latest") for number in range(5)]
    given = {"a": Simulator((Model("m1:latest"), *only)), "b": Simulator((Model("m1:latest"),))}
    async with open_scenario(given) as scenario:
        await go_down(scenario, "a")
        degraded = (await readiness(scenario)).document["degraded"]
        given["a"].come_back()
        await scenario.poll()
        again = (await readiness(scenario)).document["degraded"]

    named = "only-0:latest, only-1:latest, only-2:latest, 2 more"
    assert degraded[1:] == [f"5 models without a live backend: {named}"]
    assert again == []


async def test_a_stranger_sees_no_names(autojump_clock: Clock) -> None:
    """`/readyz` answers any `Host`, but a page of a rebound name reads only counts."""
    given = {"a": Simulator((Model("only-a:latest"),)), "b": Simulator((Model("m1:latest"),))}
    async with open_scenario(given) as scenario:
        await go_down(scenario, "a")
        found = (await readiness(scenario, "rebound.example")).document["degraded"]

    assert found == ["1 of 2 backends down", "1 model without a live backend"]


async def test_a_paused_backend_is_not_called_down(autojump_clock: Clock) -> None:
    """An operator who paused a backend to stop it sees no fault."""
    async with open_scenario() as scenario:
        scenario.gateway.backends.pause({"a"})
        await go_down(scenario, "a")

        assert (await readiness(scenario)).document["degraded"] == []


@pytest.mark.parametrize("mode", ["buffered", "strict"])
async def test_a_failing_journal(autojump_clock: Clock, mode: str) -> None:
    """The gateway is degraded while records wait in memory, and not ready if it may not serve."""
    async with open_scenario(settings={"GATEWAY_AUDIT_MODE": mode}) as scenario:
        path = scenario.gateway.admin.audit.writer.journal.path
        path.rename(path.with_suffix(".lost"))
        await scenario.ask()
        await trio.sleep(1)
        failing = await readiness(scenario)
        path.with_suffix(".lost").rename(path)
        await trio.sleep(2)
        works = await readiness(scenario)

    words = "the audit journal cannot be written"
    waits = [f"{words}: a restart would lose records"]
    assert failing.status == (503 if mode == "strict" else 200)
    assert failing.document["reasons"] == ([words] if mode == "strict" else [])
    assert failing.document["degraded"] == ([] if mode == "strict" else waits)
    assert works.document == {"ready": True, "reasons": [], "degraded": []}


async def test_a_failing_usage_journal(autojump_clock: Clock) -> None:
    """The gateway is degraded while the tokens used are only in memory."""
    limits = {"GATEWAY_LIMITS_TOKENS_PER_DAY": "100000"}
    async with open_scenario(settings=limits) as scenario:
        (path,) = scenario.gateway.admin.audit.writer.journal.path.parent.glob("budgets-*.db")
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            await scenario.ask()
            await trio.sleep(1)
            failing = await readiness(scenario)
        await trio.sleep(2)
        works = await readiness(scenario)

    lost = "the usage journal cannot be written: a restart would lose usage"
    assert (failing.status, failing.document["degraded"]) == (200, [lost])
    assert works.document["degraded"] == []


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "under 1 min"), (59.9, "under 1 min"), (60, "1 min"), (7199, "1 h"), (180_000, "2 d")],
)
def test_times_are_shown_in_their_largest_unit(seconds: float, shown: str) -> None:
    """Rounded down, so that the lines of several processes are alike."""
    assert shown_for(seconds) == shown
