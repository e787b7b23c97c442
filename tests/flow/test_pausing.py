"""Paused backends in virtual time: their running requests finish, and new ones go elsewhere."""

from __future__ import annotations

import trio
import trio.testing

from ollama_gateway.simulator import Model
from tests.support.scenario import CHAT, Reply, Scenario, open_scenario

Clock = trio.testing.MockClock
SLOW = Model("m1:latest", tokens=("a", "b", "c"), first_token=1, between_tokens=1)


def served_by(reply: Reply) -> tuple[int, str, str | None]:
    """Return the status, the text and the backend of a chat."""
    return reply.status, reply.text, reply.headers.get("x-gateway-backend")


async def readiness(scenario: Scenario) -> tuple[int, list[str]]:
    """Return the status and the reasons of `/readyz`."""
    reply = await scenario.ask("/readyz", method="GET", is_admin=True)
    return reply.status, reply.document["reasons"]


async def test_what_runs_on_a_paused_backend_finishes(autojump_clock: Clock) -> None:
    """Streams finish before and after their first chunk, and the next chat goes to b."""
    replies: list[Reply] = []

    async def chat(scenario: Scenario) -> None:
        replies.append(await scenario.ask())

    async with open_scenario(
        models=(SLOW,), settings={"GATEWAY_RACE_HEDGE_AFTER": "off"}
    ) as scenario:
        a = scenario.gateway.backends.all[0]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(chat, scenario)
            await trio.sleep(1.5)
            scenario.gateway.backends.all[1].is_paused = True  # the second chat goes to a
            nursery.start_soon(chat, scenario)
            await trio.sleep(0.25)
            scenario.gateway.backends.pause({"a"})
            assert a.in_flight == 2
            later = await scenario.ask()
        scenario.gateway.backends.pause(())
        back = await scenario.ask()

    assert [served_by(reply) for reply in replies] == [(200, "abc", "a")] * 2
    assert [reply.ended_at for reply in replies] == [3, 4.5]
    assert (*served_by(later), later.ended_at) == (200, "abc", "b", 4.75)
    assert served_by(back) == (200, "abc", "a")


async def test_all_paused_is_a_503_that_says_when_to_come_back(autojump_clock: Clock) -> None:
    """No request waits; lists do not change, and a model without a backend is still a 403."""
    async with open_scenario() as scenario:
        scenario.gateway.backends.pause({"a", "b"})
        reply = await scenario.ask()
        unknown = await scenario.ask(body={**CHAT, "model": "nope"})
        tags = await scenario.ask("/api/tags", method="GET")

        assert trio.current_time() == 0
        assert (reply.status, unknown.status) == (503, 403)
        assert int(reply.headers["retry-after"]) > 0
        assert [entry["name"] for entry in tags.document["models"]] == ["m1:latest"]
        assert await readiness(scenario) == (503, ["all backends are paused"])

        scenario.gateway.backends.pause({"b"})
        assert await readiness(scenario) == (200, [])
        assert served_by(await scenario.ask()) == (200, "Hello", "a")


async def test_up_and_paused_is_not_ready(autojump_clock: Clock) -> None:
    """Ready needs a backend that is up and not paused; if none is up, that is the reason."""
    async with open_scenario() as scenario:
        scenario.gateway.backends.pause({"a"})
        scenario.simulators["b"].go_down()
        for _ in range(3):
            await scenario.poll()
        assert await readiness(scenario) == (503, ["all backends are paused"])

        scenario.simulators["a"].go_down()
        for _ in range(3):
            await scenario.poll()
        assert await readiness(scenario) == (503, ["no backend is up"])


async def test_status_tells_who_is_paused_and_what_runs(autojump_clock: Clock) -> None:
    """`/status.json` has the figures that `gatewayctl backends list` shows."""
    async with open_scenario(models=(SLOW,)) as scenario, trio.open_nursery() as nursery:
        nursery.start_soon(scenario.ask)
        await trio.sleep(0.5)
        scenario.gateway.backends.pause({"a"})
        status = (await scenario.ask("/status.json", method="GET", is_admin=True)).document

    shown = [
        (b["name"], b["paused"], b["up"], b["in_flight"], b["slots"]) for b in status["backends"]
    ]
    assert shown == [("a", True, True, 1, 0), ("b", False, True, 0, 0)]
