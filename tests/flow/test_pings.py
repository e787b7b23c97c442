"""Comments in a stream whose first chunk is long in coming (`race.ping_after`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import trio
import trio.testing

from ollama_gateway.flow.pinging import PING
from ollama_gateway.simulator import Model, Script, Simulator
from tests.flow.dialects import CHAT, RESPONSES, SSE, Speech
from tests.support.scenario import Reply, Scenario, open_scenario

Clock = trio.testing.MockClock
SPEECHES: Final = pytest.mark.parametrize("speech", SSE, ids=lambda speech: speech.path)
SLOW: Final = Model("m1", first_token=7)


@asynccontextmanager
async def pinging(
    model: Model = SLOW, after: str = "2s", **settings: str
) -> AsyncIterator[Scenario]:
    """Open a scenario with one slow machine, and comments after so long."""
    given = {"GATEWAY_RACE_PING_AFTER": after, **settings}
    async with open_scenario({"a": Simulator([model])}, settings=given) as scenario:
        yield scenario


async def stream(scenario: Scenario, speech: Speech, **more: Any) -> Reply:
    """Ask for a stream."""
    return await scenario.ask(speech.path, {**speech.body, "stream": True}, **more)


@SPEECHES
async def test_a_silent_stream_gets_comments_until_it_begins(
    autojump_clock: Clock, speech: Speech
) -> None:
    """The head goes out with the first one, and the stream follows as it came."""
    async with pinging() as scenario:
        reply = await stream(scenario, speech)
    async with open_scenario({"a": Simulator([Model("m1")])}) as scenario:
        plain = await stream(scenario, speech)

    assert (reply.status, reply.first_chunk_at) == (200, 2)
    assert reply.body.startswith(PING * 3)
    assert speech.text(_without_pings(reply)) == speech.text(plain)
    assert reply.is_complete
    assert reply.body.endswith(speech.end)
    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.headers["x-accel-buffering"] == "no"
    assert {"x-request-id", "cache-control"} <= reply.headers.keys()


def _without_pings(reply: Reply) -> Reply:
    assert reply.body.count(PING) == 3
    return Reply(body=reply.body.replace(PING, b""))


async def test_the_record_is_that_of_any_stream(autojump_clock: Clock) -> None:
    """Comments are no answer: they count neither as a first chunk nor as bytes."""
    async with pinging() as scenario:
        reply = await stream(scenario, CHAT)
        [record] = scenario.records

    assert (record.status, record.outcome, record.ttft) == (200, "completed", 7)
    assert record.bytes_out == len(reply.body) - 3 * len(PING)


@SPEECHES
async def test_a_quick_stream_gets_none(autojump_clock: Clock, speech: Speech) -> None:
    """Where the first chunk comes in time, nothing differs."""
    async with pinging(Model("m1", first_token=1)) as scenario:
        reply = await stream(scenario, speech)

    assert PING not in reply.body
    assert reply.headers["x-gateway-backend"] == "a"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", {"messages": [{"role": "user", "content": "hi"}]}),
        ("/api/generate", {"prompt": "hi"}),
        ("/v1/chat/completions", {**CHAT.body, "stream": False}),
        ("/v1/embeddings", {"input": "hi"}),
    ],
)
async def test_other_answers_have_no_comments(
    autojump_clock: Clock, path: str, body: dict[str, Any]
) -> None:
    """Lines of JSON and whole answers cannot hold any, so they stay silent."""
    model = Model("m1", first_token=7, capabilities=("completion", "embedding"))
    async with pinging(model) as scenario:
        reply = await scenario.ask(path, {"model": "m1", **body})

    assert reply.status == 200
    assert PING not in reply.body


async def test_it_is_off_by_default(autojump_clock: Clock) -> None:
    """Without the setting a silent stream stays silent, and its errors keep their status."""
    async with pinging(after="off") as scenario:
        scenario.simulators["a"].script(Script(before=5, status=500))
        failed = await stream(scenario, CHAT)
        reply = await stream(scenario, CHAT)

    assert (failed.status, reply.status) == (500, 200)
    assert PING not in reply.body


@SPEECHES
async def test_an_error_after_a_comment_is_an_event(autojump_clock: Clock, speech: Speech) -> None:
    """The status is out already, so the client reads the error in the stream."""
    async with pinging() as scenario:
        scenario.simulators["a"].script(Script(before=5, status=500, error="boom"))
        reply = await stream(scenario, speech)

    assert (reply.status, reply.body.count(PING)) == (200, 2)
    assert b'"error"' in reply.body
    assert b"boom" in reply.body
    assert reply.is_complete is (speech is RESPONSES)  # else it is cut, as any broken stream
    [record] = scenario.records
    assert (record.outcome, record.status) == ("upstream_failed", 200)


async def test_an_error_before_the_first_comment_keeps_its_status(autojump_clock: Clock) -> None:
    """Nothing is out yet, so nothing differs."""
    async with pinging() as scenario:
        scenario.simulators["a"].script(Script(before=1, status=500))
        reply = await stream(scenario, CHAT)

    assert reply.status == 500
    assert PING not in reply.body


async def test_the_deadline_of_the_first_chunk_still_holds(autojump_clock: Clock) -> None:
    """A comment is no chunk."""
    async with pinging(GATEWAY_RACE_FIRST_CHUNK_TIMEOUT="5s") as scenario:
        reply = await stream(scenario, CHAT)

    assert (reply.status, reply.ended_at) == (200, 5)
    assert b"no backend answered in time" in reply.body
    assert scenario.records[0].reason == "first_chunk_timeout"


@pytest.mark.parametrize("leave_at", [1, 2, 3, 4.5, 7])
async def test_a_client_that_leaves_between_comments_leaves_nothing(
    autojump_clock: Clock, leave_at: float
) -> None:
    """Whenever it goes, the attempt is closed and its slot is free."""
    async with pinging(Model("m1", first_token=7, between_tokens=1)) as scenario:
        await stream(scenario, CHAT, leave_at=leave_at)

    assert scenario.records[0].outcome == "client_gone"


@pytest.mark.parametrize("seconds", [0.5, 4, 40])
async def test_a_client_that_reads_a_comment_slowly_gets_it_whole(
    autojump_clock: Clock, seconds: float
) -> None:
    """The winner waits until the comment is out, so nothing comes in the middle of it."""

    async def watch(reply: Reply) -> None:
        if reply.body == PING:
            await trio.sleep(seconds)

    async with pinging() as scenario:
        reply = await stream(scenario, CHAT, watch=watch)

    assert reply.is_complete
    assert CHAT.text(Reply(body=reply.body.replace(PING, b""))) == "Hello"


async def test_a_failover_goes_on_behind_the_comments(autojump_clock: Clock) -> None:
    """The race is what it is without them."""
    given = {"a": Simulator([SLOW]), "b": Simulator([SLOW])}
    async with open_scenario(given, settings={"GATEWAY_RACE_PING_AFTER": "2s"}) as scenario:
        scenario.simulators["a"].script(Script(before=3, cut_after=0))
        reply = await stream(scenario, CHAT)

    assert (reply.ended_at, CHAT.text(Reply(body=reply.body.replace(PING, b"")))) == (10, "Hello")
    assert [attempt.backend for attempt in scenario.records[0].attempts] == ["a", "b"]
