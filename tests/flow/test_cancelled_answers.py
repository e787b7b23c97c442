"""What clients of each API see of a cancel, what it costs, and the other kinds of requests."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from ollama_gateway.control import requests
from ollama_gateway.keys.key import KeyLimits
from ollama_gateway.simulator import Model, Script
from tests.flow.cancelling import EVA, cancelled_at, in_flight, listed
from tests.flow.dialects import CHAT, COMPLETION, MESSAGES, RESPONSES, Speech
from tests.flow.limited import PROMPT, SLOW, limited
from tests.server.managing import managed
from tests.support.scenario import Reply, TimedBody, open_scenario

Clock = trio.testing.MockClock
TEXT = "an operator of the gateway cancelled this request"
SPEECHES = [CHAT, COMPLETION, RESPONSES, MESSAGES]


def error_in(document: Any) -> str:
    """Return the text of an error in any dialect."""
    error = document.get("error") or document["response"]["error"]
    return str(error["message"])


@pytest.mark.parametrize("speech", SPEECHES, ids=lambda speech: speech.path)
async def test_before_the_first_chunk(autojump_clock: Clock, speech: Speech) -> None:
    """The error is a 403 in the dialect, on which SDKs do not retry."""
    async with open_scenario(models=(SLOW,)) as scenario:
        ask = partial(scenario.ask, speech.path, {**speech.body, "stream": True})
        found = await cancelled_at(scenario, 0.5, ask)

    assert (found.reply.status, error_in(found.reply.document)) == (403, TEXT)
    assert found.reply.headers["x-should-retry"] == "false"
    assert scenario.records[0].outcome == "cancelled"


@pytest.mark.parametrize("speech", SPEECHES, ids=lambda speech: speech.path)
async def test_in_the_middle_of_a_stream(autojump_clock: Clock, speech: Speech) -> None:
    """The dialect's error event is the last one, and the stream never looks whole."""
    async with open_scenario(models=(SLOW,)) as scenario:
        ask = partial(scenario.ask, speech.path, {**speech.body, "stream": True})
        found = await cancelled_at(scenario, 1.5, ask)

    last = found.reply.body.decode().strip().rpartition("data: ")[2]
    assert error_in(json.loads(last)) == TEXT
    assert speech.end not in found.reply.body
    assert scenario.records[0].cancelled_by == EVA


async def test_what_it_costs(autojump_clock: Clock) -> None:
    """The prompt and the tokens relayed, as for a client that leaves; the place is free."""
    async with limited(KeyLimits(tokens_per_day=100_000, concurrent_requests=1)) as made:
        found = await cancelled_at(made.scenario, 2.5, made.ask)
        cancelled = (await made.usage()).day
        await made.ask(leave_at=2.5)
        both = (await made.usage()).day

    record = made.scenario.records[0]
    assert found.before["tokens"] == 2
    assert (record.completion_tokens, record.tokens_source) == (2, "counted")
    assert 0 < cancelled <= PROMPT + 2
    assert both == 2 * cancelled


async def test_all_of_a_key(autojump_clock: Clock) -> None:
    """All its requests end at once, whatever they do; those of other keys go on."""
    async with open_scenario(models=(SLOW,), slots=1) as scenario:
        other, text = scenario.store.create("other")
        replies: list[Reply] = []

        async def ask(key: str) -> None:
            replies.append(await scenario.ask(key=key))

        async with trio.open_nursery() as nursery:
            for key in (text, "", text, text):
                nursery.start_soon(ask, key)
            await trio.sleep(1.5)
            stages = sorted(one["stage"] for one in listed(scenario, key=other.id))
            ids = requests.cancel_all_of(in_flight(scenario), other.id, EVA)

    assert set(stages) <= {"streaming", "line"}
    assert len(ids) == 3
    by = sorted((record.key_name, record.cancelled_by or "") for record in scenario.records)
    assert by == [("other", EVA)] * 3 + [("tester", "")]
    assert sum(reply.is_complete and reply.status == 200 for reply in replies) == 1


async def test_a_pull(autojump_clock: Clock) -> None:
    """The pull's connection to the backend ends, and its record says why."""
    async with managed() as client:
        client.scenario.simulators["a"].script(Script(pace=1), path="/api/pull")
        ask = partial(client.ask, "/api/pull", {"model": "new:1"}, to="a")
        found = await cancelled_at(client.scenario, 3.5, ask)
        await trio.testing.wait_all_tasks_blocked()
        pull = next(s for s in client.scenario.simulators["a"].seen if s.path == "/api/pull")

    assert (found.before["endpoint"], found.before["model"]) == ("/api/pull", "new:1")
    assert (found.before["stage"], found.before["backend"]) == ("streaming", "a")
    assert pull.gone_at == pytest.approx(3.5)
    assert (found.reply.lines[-1], found.reply.is_complete) == ({"error": TEXT}, False)
    record = client.scenario.records[0]
    assert (record.outcome, record.cancelled_by) == ("cancelled", EVA)


async def test_a_pull_that_has_not_begun(autojump_clock: Clock) -> None:
    """Until its backend answers it is asked, and the client gets the error alone."""
    async with managed() as client:
        client.scenario.simulators["a"].script(Script(before=9), path="/api/pull")
        ask = partial(client.ask, "/api/pull", {"model": "new:1"}, to="a")
        found = await cancelled_at(client.scenario, 3.5, ask)

    assert (found.before["stage"], found.reply.status) == ("racing", 403)


async def test_a_description(autojump_clock: Clock) -> None:
    """`/api/show` leaves no record, and can be seen and cancelled."""
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(Script(before=9), path="/api/show")
        ask = partial(scenario.ask, "/api/show", {"model": "m1"})
        found = await cancelled_at(scenario, 0.5, ask)

    assert (found.before["stage"], found.before["key_name"]) == ("racing", "tester")
    assert (found.reply.status, scenario.records) == (403, [])


async def test_a_listing_whose_client_does_not_read(autojump_clock: Clock) -> None:
    """It has the key, but neither a model nor a backend; its connection is cut."""

    async def read_nothing(_reply: Reply) -> None:
        await trio.sleep(60)

    async with open_scenario() as scenario:
        ask = partial(scenario.ask, "/api/tags", method="GET", watch=read_nothing)
        found = await cancelled_at(scenario, 0.5, ask)

    assert (found.before["stage"], found.before["endpoint"]) == ("streaming", "/api/tags")
    assert (found.before["key_name"], found.before["model"]) == ("tester", None)
    assert found.answer is not None
    assert found.reply.ended_at == 0.5


async def test_a_count_whose_body_is_late(autojump_clock: Clock) -> None:
    """It is read like any body."""
    body = TimedBody([(0.1, b'{"model":"m1",'), (9, b'"messages":[]}')])
    async with open_scenario() as scenario:
        ask = partial(scenario.ask, "/v1/messages/count_tokens", body)
        found = await cancelled_at(scenario, 0.5, ask)

    assert (found.before["stage"], found.before["key_name"]) == ("reading", "tester")
    assert (found.reply.status, found.reply.document["error"]["message"]) == (403, TEXT)


async def test_one_whose_key_is_not_known(autojump_clock: Clock) -> None:
    """It is neither listed nor found: it belongs to no key, and holds nothing."""
    async with open_scenario(models=(Model("m1:latest"),)) as scenario:
        reply = await scenario.ask(key="wrong")

        assert reply.status == 401
        assert (listed(scenario), len(in_flight(scenario))) == ([], 0)
