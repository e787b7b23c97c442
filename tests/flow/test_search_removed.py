"""A request keeps its other tools when the key may not search the web."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio.testing

from ollama_gateway.simulator import Model
from tests.flow.dialects import MESSAGES, RESPONSES, Speech
from tests.support.scenario import open_scenario

Clock = trio.testing.MockClock
MODELS = (Model("m1:latest", capabilities=("completion", "tools")),)
SEARCH = {"type": "web_search", "external_web_access": False}
DATED = {"type": " web_search_20250305", "name": "web_search"}
SHELL = {"type": "function", "name": "shell", "parameters": {"type": "object"}}
SPEECHES = pytest.mark.parametrize("speech", [RESPONSES, MESSAGES], ids=lambda speech: speech.path)


@SPEECHES
@pytest.mark.parametrize(
    "tools", [[SEARCH, SHELL], [SHELL, DATED], [SEARCH, SHELL, DATED, SHELL]], ids=len
)
@pytest.mark.parametrize("filler", [0, 300_000], ids=["small", "large"])
async def test_what_remains_is_asked_for(
    autojump_clock: Clock, speech: Speech, tools: list[dict[str, Any]], filler: int
) -> None:
    """Only the search tools go; a header and the audit record say so."""
    body = {**speech.body, "metadata": {"x": "y" * filler}, "tools": tools}
    async with open_scenario(models=MODELS) as scenario:
        reply = await scenario.ask(speech.path, body)
        seen = scenario.simulators["a"].seen[-1].body

    assert (reply.status, reply.headers["x-gateway-changed"]) == (200, "tools")
    kept = [tool for tool in tools if tool is SHELL]
    assert json.loads(seen)["tools"] == kept
    assert len(seen) < len(json.dumps(body))
    [record] = scenario.records
    assert (record.outcome, record.reason) == ("completed", "tools_removed")
    assert record.bytes_in == len(json.dumps(body))


@SPEECHES
@pytest.mark.parametrize(
    "more",
    [
        {"tools": [SEARCH]},
        {"tools": [SEARCH, DATED]},
        {"tools": [SEARCH, SHELL], "tool_choice": {"type": "web_search"}},
        {"tools": [SHELL, DATED], "tool_choice": {"type": "tool", "name": "web_search"}},
        {
            "tools": [SEARCH, SHELL],
            "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [SEARCH]},
        },
        {"Tools": [SEARCH, SHELL]},
        {"tools": [SHELL], "TOOLS": [SEARCH]},
    ],
    ids=json.dumps,
)
async def test_a_search_that_is_wanted_is_refused(
    autojump_clock: Clock, speech: Speech, more: dict[str, Any]
) -> None:
    """A search that is the only tool, or chosen, or hidden in an ambiguous body is refused."""
    async with open_scenario(models=MODELS) as scenario:
        reply = await scenario.ask(speech.path, {**speech.body, **more})
        asked = [len(simulator.seen) for simulator in scenario.simulators.values()]

    assert reply.status == (400 if len(more) == 2 and "TOOLS" in more else 403)
    assert asked == [3, 3]  # discovery alone
    if reply.status == 403:
        assert 'web_search = "disabled"' in reply.document["error"]["message"]
        [record] = scenario.records
        assert (record.reason, record.model) == ("web_search_not_allowed", "m1:latest")


@pytest.mark.parametrize("filler", [0, 300_000], ids=["small", "large"])
async def test_a_choice_may_be_written_with_escapes(autojump_clock: Clock, filler: int) -> None:
    """A search that `tool_choice` names with escapes is chosen, in a body of any size."""
    body = {**RESPONSES.body, "metadata": {"x": "y" * filler}, "tools": [SEARCH, SHELL]}
    text = json.dumps({**body, "tool_choice": {"type": "web_search"}})
    head, choice, tail = text.rpartition('"web_search"')
    assert choice
    async with open_scenario(models=MODELS) as scenario:
        reply = await scenario.ask(RESPONSES.path, f'{head}"\\u0077eb_search"{tail}'.encode())

    assert reply.status == 403


async def test_a_type_that_is_there_twice_is_judged_as_a_search(autojump_clock: Clock) -> None:
    """A tool with two types is not taken out, since Ollama may read either."""
    tools = '[{"type":"web_search","type":"function"},{"type":"function","name":"shell"}]'
    body = json.dumps({**RESPONSES.body, "tools": []}).replace("[]}", f"{tools}}}").encode()
    async with open_scenario(models=MODELS) as scenario:
        reply = await scenario.ask(RESPONSES.path, body)

    assert reply.status == 403


async def test_a_key_with_the_right_searches(autojump_clock: Clock) -> None:
    """A key that may search sends its tools unchanged."""
    body = {**RESPONSES.body, "tools": [SEARCH, SHELL]}
    async with open_scenario(models=MODELS) as scenario:
        _, key = scenario.store.create("outside", ("m1", "*-cloud"))
        reply = await scenario.ask(RESPONSES.path, body, key=key)
        seen = scenario.simulators["a"].seen[-1].body

    assert (reply.status, json.loads(seen)["tools"]) == (200, body["tools"])
    assert "x-gateway-changed" not in reply.headers
