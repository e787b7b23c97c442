"""Tools that search the web: they need a right of their own, and a budget for four runs."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio.testing

from ollama_gateway.keys.key import KeyLimits
from ollama_gateway.simulator import Model, Simulator
from ollama_gateway.wire.bounds import SEARCH_TOOL
from tests.flow.dialects import MESSAGES, RESPONSES, Speech
from tests.support.scenario import open_scenario

Clock = trio.testing.MockClock
TOOL = {"type": "web_search", "name": "web_search"}
MODELS = (Model("m1:latest", capabilities=("completion", "tools")),)
SEARCHING = pytest.mark.parametrize("speech", [RESPONSES, MESSAGES], ids=lambda speech: speech.path)


def searching(speech: Speech) -> dict[str, Any]:
    """Return the request with such a tool."""
    return {**speech.body, "tools": [TOOL]}


@SEARCHING
async def test_searching_needs_a_pattern_of_the_cloud(
    autojump_clock: Clock, speech: Speech
) -> None:
    """A key with only local models gets a 403 that says what to do, and no backend is asked."""
    async with open_scenario(models=MODELS) as scenario:
        _, outside = scenario.store.create("outside", ("m1", "*-cloud"))
        refused = await scenario.ask(speech.path, searching(speech))
        served = await scenario.ask(speech.path, searching(speech), key=outside)
        asked = sum(len(simulator.seen) for simulator in scenario.simulators.values())

    assert (refused.status, served.status) == (403, 200)
    assert "leave the tool web_search out" in refused.document["error"]["message"]
    assert [record.reason for record in scenario.records] == ["web_search_not_allowed", None]
    assert not scenario.records[0].attempts
    assert asked >= 1


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_elsewhere_such_a_tool_is_one_like_others(autojump_clock: Clock, path: str) -> None:
    """Ollama searches on two routes only; elsewhere the tool passes."""
    async with open_scenario(models=MODELS) as scenario:
        reply = await scenario.ask(path, {**MESSAGES.body, "tools": [TOOL]})

    assert reply.status == 200


async def reserved(speech: Speech, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return the tokens that a request reserves, and the request that its backend gets."""
    limits = KeyLimits(tokens_per_day=1_000_000)
    async with open_scenario({"a": Simulator(MODELS)}) as scenario:
        _, key = scenario.store.create("searcher", ("m1", "*cloud"), limits=limits)
        reply = await scenario.ask(speech.path, body, key=key)
        seen = json.loads(scenario.simulators["a"].seen[-1].body)
    assert (reply.status, scenario.records[0].tokens_source) == (200, "reported")
    return 1_000_000 - int(reply.headers["x-ratelimit-remaining-tokens"]), seen


@SEARCHING
async def test_four_runs_are_reserved(autojump_clock: Clock, speech: Speech) -> None:
    """Prompt and answer are reserved for each run, and each run may write as much."""
    field = "max_tokens" if speech is MESSAGES else "max_output_tokens"
    body = {**searching(speech), field: 100}
    plain = {**body, "tools": [{**TOOL, "type": "wxb_search"}]}
    tokens, seen = await reserved(speech, body)
    alone, _ = await reserved(speech, plain)

    assert tokens == 4 * (alone - 100 + SEARCH_TOOL) + 4 * 100
    assert seen[field] == 100


@SEARCHING
async def test_an_answer_shrinks_in_each_run(autojump_clock: Clock, speech: Speech) -> None:
    """If the budget has less than four answers left, each run gets a quarter of it."""
    field = "max_tokens" if speech is MESSAGES else "max_output_tokens"
    tokens, _ = await reserved(speech, {**searching(speech), field: 1000})
    limits = KeyLimits(tokens_per_day=tokens - 4 * 1000 + 8003)
    async with open_scenario({"a": Simulator(MODELS)}) as scenario:
        _, key = scenario.store.create("searcher", ("m1", "*cloud"), limits=limits)
        reply = await scenario.ask(speech.path, {**searching(speech), field: 4096}, key=key)
        seen = json.loads(scenario.simulators["a"].seen[-1].body)

    assert (reply.status, seen[field]) == (200, 2000)
    assert reply.headers["x-ratelimit-remaining-tokens"] == "0"
