"""Descriptions and token counts: each key may have a few at once."""

from __future__ import annotations

import json

import pytest
import trio
import trio.testing

from tests.support.scenario import CHAT, Reply, Scenario, TimedBody, open_scenario

Clock = trio.testing.MockClock
SHOW, COUNT = "/api/show", "/v1/messages/count_tokens"


def slowly(path: str) -> TimedBody:
    """Return a body that takes five seconds."""
    whole = json.dumps({"model": "m1"} if path == SHOW else CHAT).encode()
    return TimedBody([(1, whole[:2]), (4, whole[2:])], is_announced=True)


@pytest.mark.parametrize("path", [SHOW, COUNT])
async def test_a_key_has_eight_at_once(autojump_clock: Clock, path: str) -> None:
    """The ninth is refused; other keys and inference have places of their own."""
    replies: list[Reply] = []
    async with open_scenario() as scenario, trio.open_nursery() as nursery:
        _, other = scenario.store.create("other")

        async def ask(key: str) -> None:
            replies.append(await scenario.ask(path, slowly(path), key=key))

        for _ in range(9):
            nursery.start_soon(ask, scenario.key)
        nursery.start_soon(ask, other)
        await trio.sleep(2)
        (refused,) = replies
        chat = await scenario.ask()
        await trio.sleep(4)
        again = await scenario.ask(path, slowly(path))
        metrics = await scenario.ask("/metrics", method="GET", is_admin=True)

    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert chat.status == again.status == 200
    assert [reply.status for reply in replies[1:]] == [200] * 9
    assert b'ollama_gateway_limited_total{limit="reads_at_once"} 1.0' in metrics.body


async def test_both_kinds_share_the_places(autojump_clock: Clock) -> None:
    """Four of each use up the places of a key."""
    replies: list[Reply] = []
    async with open_scenario() as scenario, trio.open_nursery() as nursery:

        async def ask(path: str) -> None:
            replies.append(await scenario.ask(path, slowly(path)))

        for _ in range(4):
            nursery.start_soon(ask, SHOW)
            nursery.start_soon(ask, COUNT)
        await trio.sleep(2)
        statuses = [await scenario.ask(SHOW, {"model": "m1"}), await scenario.ask(COUNT, CHAT)]
        model = await scenario.ask("/v1/models/m1", method="GET")

    assert [reply.status for reply in [*statuses, model]] == [429] * 3
    assert [reply.status for reply in replies] == [200] * 8


@pytest.mark.parametrize("leave_at", [0.5, 2.0, None])
async def test_a_place_is_given_back_on_every_way_out(
    autojump_clock: Clock, leave_at: float | None
) -> None:
    """After leaving clients, broken bodies and wrong models, all eight places are free."""

    async def ask(scenario: Scenario, body: object) -> None:
        await scenario.ask(SHOW, body, leave_at=leave_at)

    async with open_scenario() as scenario:
        for body in [slowly(SHOW), TimedBody([(1, b"{")]), {"model": "nope"}, b"[]"] * 8:
            await ask(scenario, body)
        async with trio.open_nursery() as nursery:
            for _ in range(7):
                nursery.start_soon(ask, scenario, slowly(SHOW))
            await trio.sleep(0.1)
            reply = await scenario.ask(SHOW, {"model": "m1"})

    assert reply.status == 200
