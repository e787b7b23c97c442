"""An operator cancels a request: in each of its stages, twice, too late, in the same instant."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio.testing

from ollama_gateway.control import requests
from ollama_gateway.keys.key import KeyLimits
from ollama_gateway.simulator import Script
from tests.flow.cancelling import (
    EVA,
    LateLimits,
    SlowDisk,
    cancelled,
    cancelled_at,
    in_flight,
    listed,
)
from tests.flow.limited import limited
from tests.flow.test_scenarios import SLOW
from tests.support.scenario import CHAT, Reply, Scenario, TimedBody, open_scenario

Clock = trio.testing.MockClock
MESSAGE = {"error": "an operator of the gateway cancelled this request"}
BY_EVA = ("cancelled", "cancelled", EVA)


def end_of(scenario: Scenario) -> tuple[str, str | None, str | None]:
    """Return the outcome and the reason of the last record, and who cancelled it."""
    record = scenario.records[-1]
    return record.outcome, record.reason, record.cancelled_by


async def test_while_its_body_is_read(autojump_clock: Clock) -> None:
    """The client gets a 403 at once, and no backend is asked."""
    body = TimedBody([(0.1, b'{"model":"m1",'), (9, b'"messages":[]}')])
    async with open_scenario() as scenario:
        found = await cancelled_at(scenario, 0.5, partial(scenario.ask, body=body))

    assert (found.before["stage"], found.before["attempts"]) == ("reading", [])
    assert (found.reply.status, found.reply.document, found.reply.ended_at) == (403, MESSAGE, 0.5)
    assert found.reply.headers["x-should-retry"] == "false"
    assert end_of(scenario) == BY_EVA
    assert scenario.records[0].status == 403
    assert scenario.gateway.app.bodies.held == 0


async def test_while_its_limits_are_waited_for(autojump_clock: Clock) -> None:
    """It never goes upstream, and holds no place of its key."""
    async with limited(KeyLimits(concurrent_requests=1)) as made:
        limits = made.scenario.gateway.parts.limits
        store, limits.store = limits.store, LateLimits(limits.store)
        found = await cancelled_at(made.scenario, 0.5, made.ask)
        limits.store = store

    assert (found.before["stage"], found.before["model"]) == ("limits", "m1:latest")
    assert (found.reply.status, found.reply.ended_at) == (403, 0.5)
    assert end_of(made.scenario) == BY_EVA
    assert made.scenario.records[0].attempts == []


async def test_while_the_places_of_a_late_body_are_waited_for(autojump_clock: Clock) -> None:
    """Its stage is that of the limits, before a byte of its body is read."""
    body = TimedBody([(0.1, b'{"model":"m1",'), (9, b'"messages":[]}')])
    async with limited(KeyLimits(concurrent_requests=1)) as made:
        limits = made.scenario.gateway.parts.limits
        store, limits.store = limits.store, LateLimits(limits.store)
        found = await cancelled_at(made.scenario, 0.5, partial(made.ask, body=body))
        limits.store = store

    assert (found.before["stage"], found.reply.status) == ("limits", 403)
    assert end_of(made.scenario) == BY_EVA


async def test_while_its_intent_is_waited_for(autojump_clock: Clock) -> None:
    """In strict mode, before anything goes upstream; the record is the only one, and final."""
    disk = SlowDisk()
    settings = {"GATEWAY_AUDIT_MODE": "strict"}
    async with open_scenario(settings=settings, runner=disk) as scenario:
        await scenario.ask()  # its key is known from here on
        disk.seconds = 1.0
        found = await cancelled_at(scenario, 0.5, scenario.ask)
        await trio.sleep(5)
        written = scenario.gateway.parts.audit.writer

    assert (found.before["stage"], found.reply.status) == ("limits", 403)
    assert end_of(scenario) == BY_EVA
    assert (written.records_waiting, len(scenario.records)) == (0, 2)


async def test_while_it_waits_in_line(autojump_clock: Clock) -> None:
    """It leaves the line, and the request behind it is the next."""
    async with open_scenario(models=(SLOW,), slots=1) as scenario, trio.open_nursery() as nursery:
        nursery.start_soon(scenario.ask)
        nursery.start_soon(scenario.ask)
        await trio.sleep(0.1)
        found = await cancelled_at(scenario, 0.4, scenario.ask)
        waiting = len(scenario.gateway.backends.line)

    assert (found.before["stage"], found.before["backend"]) == ("line", None)
    assert (found.reply.status, found.reply.document) == (403, MESSAGE)
    assert (waiting, scenario.records[0].cancelled_by) == (0, EVA)


async def test_while_it_races_with_a_hedge(autojump_clock: Clock) -> None:
    """Both backends see their client leave in that instant, and neither is blamed."""
    settings = {"GATEWAY_RACE_HEDGE_AFTER": "1s", "GATEWAY_RACE_MAX_HEDGE_RATIO": "1"}
    async with open_scenario(settings=settings) as scenario:
        for simulator in scenario.simulators.values():
            simulator.load("m1", -1)
            simulator.script(Script(hang_after=0))
        await scenario.poll()
        began = trio.current_time()
        found = await cancelled_at(scenario, 1.5, scenario.ask)
        await trio.testing.wait_all_tasks_blocked()
        gone = [simulator.seen[-1].gone_at for simulator in scenario.simulators.values()]
        health = [backend.is_up for backend in scenario.gateway.backends.all]

    assert found.before["stage"] == "racing"
    assert [(one["backend"], one["hedge"]) for one in found.before["attempts"]] == [
        ("a", False),
        ("b", True),
    ]
    assert gone == [began + 1.5, began + 1.5]
    assert (found.reply.status, health) == (403, [True, True])
    assert end_of(scenario) == BY_EVA
    assert [attempt.reason for attempt in scenario.records[-1].attempts] == [None, None]


async def test_while_it_streams(autojump_clock: Clock) -> None:
    """The backend sees it leave at once; the stream ends in an error and is never complete."""
    async with open_scenario(models=(SLOW,)) as scenario:
        found = await cancelled_at(scenario, 2.5, scenario.ask)
        await trio.testing.wait_all_tasks_blocked()
        seen = scenario.simulators["a"].seen[-1]

    assert (found.before["stage"], found.before["backend"]) == ("streaming", "a")
    assert (found.before["tokens"], found.before["chunks"]) == (2, 2)
    assert (seen.gone_at, found.reply.ended_at) == (2.5, 2.5)
    assert (found.reply.status, found.reply.is_complete) == (200, False)
    assert found.reply.lines[-1] == MESSAGE
    assert end_of(scenario) == BY_EVA
    record = scenario.records[0]
    assert (record.status, record.completion_tokens, record.tokens_source) == (200, 2, "counted")


async def test_while_a_whole_answer_is_made(autojump_clock: Clock) -> None:
    """The client gets the error in place of the answer."""
    async with open_scenario(models=(SLOW,)) as scenario:
        ask = partial(scenario.ask, body={**CHAT, "stream": False})
        found = await cancelled_at(scenario, 1.5, ask)
        await trio.testing.wait_all_tasks_blocked()
        seen = scenario.simulators["a"].seen[-1]

    assert (found.before["stage"], found.reply.status, seen.gone_at) == ("racing", 403, 1.5)
    assert found.reply.document == MESSAGE
    assert end_of(scenario) == BY_EVA


async def test_while_its_client_does_not_read(autojump_clock: Clock) -> None:
    """The backend is free at once, however long the client takes for the error."""

    async def read_nothing(reply: Reply) -> None:
        if reply.body:
            await trio.sleep(60)

    async with open_scenario(models=(SLOW,)) as scenario:
        ask = partial(scenario.ask, watch=read_nothing)
        found = await cancelled_at(scenario, 1.5, ask)
        seen = scenario.simulators["a"].seen[-1]

    assert (found.before["stage"], found.before["chunks"]) == ("streaming", 1)
    assert (seen.gone_at, found.reply.ended_at) == (1.5, 2.5)
    assert not found.reply.is_complete
    assert end_of(scenario) == BY_EVA


async def test_while_its_end_is_recorded(autojump_clock: Clock) -> None:
    """It has ended: the answer is whole and paid for, so its record stays as it is written."""
    disk = SlowDisk()
    settings = {"GATEWAY_AUDIT_MODE": "strict"}
    async with (
        open_scenario(models=(SLOW,), settings=settings, runner=disk) as scenario,
        trio.open_nursery() as nursery,
    ):

        async def slow_down() -> None:
            await trio.sleep(2.5)
            disk.seconds = 1.0

        nursery.start_soon(slow_down)
        found = await cancelled_at(scenario, 3.5, scenario.ask)
        of_key = requests.cancel_all_of(in_flight(scenario), found.before["key_id"], EVA)

    assert (found.before["stage"], found.answer, of_key) == ("ending", None, [])
    assert (found.reply.text, found.reply.is_complete) == ("abc", True)
    assert found.reply.ended_at == 4
    assert end_of(scenario) == ("completed", None, None)


async def test_after_its_end(autojump_clock: Clock) -> None:
    """Its id is unknown then, and nothing changes."""
    async with open_scenario() as scenario:
        reply = await scenario.ask()
        found = cancelled(scenario, reply.headers["x-request-id"], EVA)

    assert (found, listed(scenario)) == (None, [])
    assert end_of(scenario) == ("completed", None, None)


async def test_two_at_once_are_one(autojump_clock: Clock) -> None:
    """Both operators learn who was first, and the record names that one."""
    async with open_scenario(models=(SLOW,)) as scenario, trio.open_nursery() as nursery:
        nursery.start_soon(scenario.ask)
        await trio.sleep(1.5)
        [one] = listed(scenario)
        answers = [cancelled(scenario, one["id"], by) for by in (EVA, "adam")]
        again = requests.cancel_all_of(in_flight(scenario), one["key_id"], "adam")

    assert [answer and answer["cancelled_by"] for answer in answers] == [EVA, EVA]
    assert again == []
    assert [record.cancelled_by for record in scenario.records] == [EVA]


@pytest.mark.parametrize("is_drain", [False, True])
async def test_one_that_is_being_ended_already(autojump_clock: Clock, *, is_drain: bool) -> None:
    """Its client has left, or the drain is over: the record says that, and no operator did it."""
    answers = []
    async with open_scenario(models=(SLOW,)) as scenario, trio.open_nursery() as nursery:
        nursery.start_soon(partial(scenario.ask, leave_at=None if is_drain else 1.5))
        await trio.sleep(1)
        [one] = listed(scenario)
        if is_drain:
            scenario.gateway.app.drain(0)
            answers.append(cancelled(scenario, one["id"], EVA))
        else:
            await trio.sleep(0.5)
            answers.append(cancelled(scenario, one["id"], EVA))

    by = scenario.records[0].cancelled_by
    assert (answers[0] is None) == (by is None)
    if is_drain:
        assert (answers, end_of(scenario)) == ([None], ("killed", "draining", None))


@pytest.mark.parametrize("is_strict", [False, True])
@pytest.mark.parametrize("at", [0.0, 1.0, 2.0, 3.0])
async def test_in_the_instant_of_a_chunk(
    autojump_clock: Clock, at: float, *, is_strict: bool
) -> None:
    """Operator, client and record agree, whichever came first: it was cancelled, or completed."""
    settings = {"GATEWAY_AUDIT_MODE": "strict"} if is_strict else {}
    answers: list[object] = []
    async with (
        open_scenario(models=(SLOW,), settings=settings) as scenario,
        trio.open_nursery() as nursery,
    ):

        async def cancel() -> None:
            await trio.sleep(at)
            ids = [one["id"] for one in listed(scenario)]
            answers.extend(cancelled(scenario, one, EVA) for one in ids)

        nursery.start_soon(cancel)
        reply = await scenario.ask()

    was_cancelled = any(answer is not None for answer in answers)
    assert end_of(scenario) == (BY_EVA if was_cancelled else ("completed", None, None))
    assert reply.is_complete is (not was_cancelled or reply.status == 403)
    assert (b'"done":true' in reply.body) is not was_cancelled
    assert (b"cancelled this request" in reply.body) is was_cancelled
