"""The charge for an answer without reported usage: its text, and the backend's work."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio.testing

from ollama_gateway.backends.health import ASSUMED_PACE
from ollama_gateway.keys.key import KeyLimits
from ollama_gateway.limits.quota import KeyUsage
from ollama_gateway.simulator import Model, Script, Simulator
from ollama_gateway.simulator.model import Call
from tests.flow import dialects
from tests.flow.limited import Limited, limited
from tests.support.scenario import CHAT

Clock = trio.testing.MockClock
WHOLE = {**CHAT, "stream": False}
BUDGET = KeyLimits(tokens_per_day=100_000)
TALKER = Model("m1:latest", tokens=(" word",) * 100, first_token=1, between_tokens=0.1)
"""A word of five bytes ten times a second, from 1 s to 10.9 s."""
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "say", "parameters": {"type": "object"}},
}
SPEAKER = Model(
    "m1:latest",
    capabilities=("completion", "tools"),
    calls=(Call("say", {"text": "word " * 4000}), Call("say", {"text": "x"})),
    first_token=5,
    between_tokens=5,
)
"""Calls a tool with 20,000 bytes at 5 s, and another at 10 s."""


async def charged(key: Limited) -> tuple[int, int]:
    """Return the answer's tokens in the last record, and the charge for its prompt."""
    record = key.scenario.records[-1]
    usage: KeyUsage = await key.usage()
    assert usage.day == sum(
        (r.prompt_tokens or 0) + (r.completion_tokens or 0) for r in key.scenario.records
    )
    return record.completion_tokens or 0, record.prompt_tokens or 0


@pytest.mark.parametrize("leave_at", [2.05, 5.05, 9.05])
async def test_ordinary_chunks_are_about_a_token_each(
    autojump_clock: Clock, leave_at: float
) -> None:
    """A stream of words that is left half-way costs a quarter of its bytes, not its frames."""
    async with limited(BUDGET, models=(TALKER,)) as key:
        reply = await key.ask(leave_at=leave_at)
        completion, _ = await charged(key)

    chunks = len(reply.lines)
    assert completion == math.ceil(5 * chunks / 4)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", {**CHAT, "tools": [TOOL]}),
        ("/v1/chat/completions", {**CHAT, "stream": True, "tools": [TOOL]}),
        (
            "/v1/messages",
            {
                **CHAT,
                "stream": True,
                "max_tokens": 6000,
                "tools": [{"name": "say", "input_schema": {"type": "object"}}],
            },
        ),
        (
            "/v1/responses",
            {
                "model": "m1",
                "input": "hi",
                "stream": True,
                "tools": [{**TOOL["function"], "type": "function"}],
            },
        ),
    ],
)
async def test_a_long_chunk_is_charged_by_its_text(
    autojump_clock: Clock, path: str, body: dict[str, Any]
) -> None:
    """A tool call of 20,000 bytes in one chunk costs 5,000 tokens, in every dialect."""
    settings = {"GATEWAY_LIMITS_DEFAULT_OUTPUT_TOKENS": "6000"}
    async with limited(BUDGET, models=(SPEAKER,), settings=settings) as key:
        reply = await key.ask(path, body, leave_at=5.05)
        completion, _ = await charged(key)

    assert reply.body.count(b"word ") >= 4000
    assert 5000 <= completion <= 6000
    assert key.scenario.records[0].tokens_source == "counted"


@pytest.mark.parametrize("speech", dialects.SSE, ids=lambda speech: speech.path)
async def test_a_few_long_chunks(autojump_clock: Clock, speech: dialects.Speech) -> None:
    """Text that Ollama's parser held back and sent at once costs its length in every dialect."""
    model = Model("m1:latest", tokens=("word " * 400,) * 5, between_tokens=1)
    async with limited(BUDGET, models=(model,)) as key:
        await key.ask(
            speech.path, {**speech.body, "stream": True, "max_tokens": 4000}, leave_at=2.5
        )
        completion, _ = await charged(key)

    assert 3 * 500 <= completion <= 3 * 500 + 10


@pytest.mark.parametrize(
    ("leave_at", "tokens"), [(0.05, 50), (0.5, 500), (2.5, 2500), (6, 4096), (60, 4096)]
)
async def test_a_whole_answer_that_is_left_costs_its_time(
    autojump_clock: Clock, leave_at: float, tokens: int
) -> None:
    """A backend of unknown pace counts as the fastest, but never beyond the bound."""
    model = Model("m1:latest", tokens=(" word",) * 100, first_token=100)
    async with limited(BUDGET, models=(model,)) as key:
        await key.ask(body=WHOLE, leave_at=leave_at)
        completion, _ = await charged(key)

    assert ASSUMED_PACE == 1000
    assert completion == pytest.approx(tokens, abs=1)
    assert key.scenario.records[0].tokens_source == "counted"


@pytest.mark.parametrize(
    ("path", "body"),
    [("/api/chat", CHAT), ("/api/chat", WHOLE), ("/v1/chat/completions", {**CHAT, "stream": True})],
)
async def test_the_pace_that_a_backend_has_shown_counts(
    autojump_clock: Clock, path: str, body: dict[str, Any]
) -> None:
    """One report with the duration of its answer, given or visible, sets the pace."""
    async with limited(BUDGET, models=(TALKER,)) as key:
        await key.ask(path, body)
        reported = key.scenario.records[0].completion_tokens
        await key.ask(body=WHOLE, leave_at=8)
        completion, _ = await charged(key)

    assert reported == 100
    assert completion == pytest.approx(80, abs=2)


async def test_a_short_or_a_bundled_answer_shows_no_pace(autojump_clock: Clock) -> None:
    """A few tokens, or many in one chunk, do not show how fast a model writes."""
    short = Model("m1:latest", tokens=("a", "b"), between_tokens=0.1)
    burst = Model("burst:1", tokens=("a",) * 50)
    async with limited(BUDGET, {"a": Simulator([short, burst])}) as key:
        await key.ask()
        await key.ask("/v1/chat/completions", {**CHAT, "stream": False})
        await key.ask("/v1/chat/completions", {**CHAT, "model": "burst:1", "stream": True})
        health = key.scenario.gateway.backends.all[0].health
        paces = [(list(health[name].paces), health[name].pace) for name in health]

    assert paces == [([], ASSUMED_PACE)] * 2


async def test_a_deadline_costs_the_time_until_then(autojump_clock: Clock) -> None:
    """A whole answer that `race.total_timeout` cuts costs all of its time."""
    settings = {"GATEWAY_RACE_TOTAL_TIMEOUT": "3s"}
    model = Model("m1:latest", first_token=100)
    async with limited(BUDGET, models=(model,), settings=settings) as key:
        reply = await key.ask(body=WHOLE)
        completion, _ = await charged(key)

    assert (reply.status, completion) == (504, 3000)


async def test_a_call_of_a_tool_that_was_held_back_costs_its_time(autojump_clock: Clock) -> None:
    """If a tool is offered, silence counts, since a call may be being written."""
    body = {**CHAT, "tools": [TOOL]}
    async with limited(BUDGET, models=(SPEAKER,)) as key:
        await key.ask(body=body, leave_at=2)
        held_back, _ = await charged(key)
        await key.ask(leave_at=2)
        plain, _ = await charged(key)

    assert (held_back, plain) == (2000, 0)


async def test_only_the_backend_that_worked_costs_its_time(autojump_clock: Clock) -> None:
    """A failed attempt costs nothing; time counts from the attempt that took over."""
    model = Model("m1:latest", first_token=100)
    async with limited(BUDGET, models=(model,)) as key:
        key.scenario.simulators["a"].script(Script(before=5, status=500, error="no"))
        await key.ask(body=WHOLE, leave_at=6)
        completion, _ = await charged(key)

    assert completion == 1000


async def test_a_key_cannot_burn_more_than_its_budget(autojump_clock: Clock) -> None:
    """Whole answers left just before their end use up the budget, and are then refused."""
    model = Model("m1:latest", tokens=("x",) * 1500, between_tokens=0.02)
    async with limited(KeyLimits(tokens_per_day=4000), models=(model,)) as key:
        body = {**WHOLE, "options": {"num_predict": 1500}}
        for _ in range(12):
            await key.ask(body=body, leave_at=29)
        made = sum(29 * 50 for record in key.scenario.records if record.status == 0)
        statuses = [record.status for record in key.scenario.records]

    assert statuses.count(429) >= 9
    assert made <= 2 * 4000


async def test_embeddings_write_nothing(autojump_clock: Clock) -> None:
    """Embeddings cost only their prompt, however long the client waited."""
    async with limited(BUDGET) as key:
        for simulator in key.scenario.simulators.values():
            simulator.script(Script(hang_after=0))
        await key.ask("/api/embed", {"model": "m1", "input": "x" * 400}, leave_at=9)
        completion, prompt = await charged(key)

    assert (completion, prompt) == (0, 100)
