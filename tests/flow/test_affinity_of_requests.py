"""Affinity from a client's request to the answer, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest
import trio.testing

from ollama_gateway.simulator import Model, Script, Simulator
from tests.support.scenario import Reply, Scenario, open_scenario

Clock = trio.testing.MockClock
pytestmark = pytest.mark.virtual_time
NAMES = ("a", "b", "c")


def fleet() -> dict[str, Simulator]:
    """Return three equal machines."""
    return {name: Simulator([Model("m1:latest")]) for name in NAMES}


def body(text: str, **others: object) -> dict[str, object]:
    """Return a native chat that begins with a text."""
    return {"model": "m1", "messages": [{"role": "user", "content": text}], **others}


def told(reply: Reply) -> tuple[str, str]:
    """Return the backend and the affinity that an answer tells."""
    return reply.headers["x-gateway-backend"], reply.headers["x-gateway-affinity"]


async def warm(scenario: Scenario) -> None:
    """Load the model everywhere."""
    for name in NAMES:
        scenario.simulators[name].load("m1:latest")
    await scenario.poll()


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/api/chat", body("hello")),
        ("/api/generate", {"model": "m1", "prompt": "hello"}),
        ("/v1/chat/completions", body("hello", stream=True)),
        ("/v1/completions", {"model": "m1", "prompt": "hello"}),
        ("/v1/responses", {"model": "m1", "input": "hello", "stream": True}),
        ("/v1/messages", body("hello", max_tokens=9)),
    ],
)
async def test_each_dialect_keeps_its_conversation(path: str, asked: dict[str, Any]) -> None:
    """The second turn has the same backend, says so, and its record says so, too."""
    async with open_scenario(fleet(), is_one_tier=True) as scenario:
        await warm(scenario)
        replies = [await scenario.ask(path, asked) for _ in range(3)]

    backends, kinds = zip(*map(told, replies), strict=True)
    assert len(set(backends)) == 1
    assert kinds == ("new", "kept", "kept")
    assert [record.affinity for record in scenario.records] == list(kinds)


async def test_a_conversation_is_named_by_a_header() -> None:
    """Texts may differ while the header is the same, and the header does not go upstream."""
    async with open_scenario(fleet(), is_one_tier=True) as scenario:
        await warm(scenario)
        named = {"x-gateway-session": "one"}
        replies = [await scenario.ask(body=body(text), headers=named) for text in ("x", "y")]
        name, kind = told(replies[1])
        seen = scenario.simulators[name].seen[-1]

    assert kind == "kept"
    assert name == told(replies[0])[0]
    assert not [header for header in seen.headers if "session" in str(header).lower()]


async def test_a_conversation_of_one_key_is_none_of_another() -> None:
    """The same name and the same text with another key is another conversation."""
    async with open_scenario(fleet(), is_one_tier=True) as scenario:
        _, other = scenario.store.create("other")
        named = {"x-gateway-session": "one"}
        await scenario.ask(headers=named)
        reply = await scenario.ask(headers=named, key=other)

    assert told(reply)[1] == "new"


async def test_an_answer_that_is_continued_is_where_its_history_is() -> None:
    """A request that names the answer before goes to its backend, with other words."""
    async with open_scenario(fleet(), is_one_tier=True) as scenario:
        await warm(scenario)
        for number in range(6):
            asked = {"model": "m1", "input": f"hello {number}"}
            first = await scenario.ask("/v1/responses", asked)
            more = {"model": "m1", "input": f"go on {number}"}
            more["previous_response_id"] = first.document["id"]
            second = await scenario.ask("/v1/responses", more)
            assert told(second) == (told(first)[0], "kept")


async def test_after_a_failover_the_conversation_is_bound_anew(autojump_clock: Clock) -> None:
    """The backend that rescued the request has the conversation from then on."""
    async with open_scenario(fleet(), is_one_tier=True) as scenario:
        await warm(scenario)
        first = await scenario.ask()
        scenario.simulators[told(first)[0]].script(Script(cut_after=0))
        rescued = await scenario.ask()
        then = await scenario.ask()

    assert told(rescued)[1] == "moved"
    assert told(then) == (told(rescued)[0], "kept")


async def test_affinity_can_be_switched_off() -> None:
    """Then nothing is bound, and neither the answer nor the record says anything."""
    off = {"GATEWAY_AFFINITY_ENABLED": "false"}
    async with open_scenario(fleet(), is_one_tier=True, settings=off) as scenario:
        replies = [await scenario.ask() for _ in range(2)]

    assert all("x-gateway-affinity" not in reply.headers for reply in replies)
    assert [record.affinity for record in scenario.records] == [None, None]


async def test_embeddings_belong_to_no_conversation() -> None:
    """They are read whole and once; nothing of them is cached."""
    async with open_scenario(fleet(), is_one_tier=True) as scenario:
        reply = await scenario.ask("/api/embed", {"model": "m1", "input": "hello"})

    assert reply.headers["x-gateway-affinity"] == "none"


async def test_the_explanation_knows_a_conversation() -> None:
    """With a key and a session it says which backend has the conversation, and why it is first."""
    async with open_scenario(fleet(), is_one_tier=True) as scenario:
        await warm(scenario)
        name, _ = told(await scenario.ask(headers={"x-gateway-session": "one"}))
        path = "/explain/m1?key=tester&session=one"
        found = await scenario.ask(path, method="GET", key=None, is_admin=True)
        lacking = await scenario.ask("/explain/m1?session=x", method="GET", key=None, is_admin=True)

    first = found.document["candidates"][0]
    assert first["backend"] == name
    assert "has the conversation, " in first["why"]
    assert (lacking.status, found.document["advice"]) == (400, None)


async def test_the_metrics_count_conversations() -> None:
    """One counter says how many requests found their conversation's backend again."""
    async with open_scenario(fleet(), is_one_tier=True) as scenario:
        for _ in range(3):
            await scenario.ask()
        value = scenario.gateway.parts.metrics.value
        kinds = ("new", "kept", "moved")
        counts = [value("affinity_total", {"result": kind}) for kind in kinds]

    assert counts == [1, 2, None]
