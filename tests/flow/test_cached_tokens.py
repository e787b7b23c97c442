"""Cached tokens of prompts, from a backend's report to the record, the budget and the metrics."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio.testing

from ollama_gateway.keys.key import KeyLimits
from ollama_gateway.simulator import Model, Script, Simulator
from tests.flow.dialects import SAY_HI, SSE
from tests.flow.limited import limited
from tests.support.scenario import CHAT, open_scenario

Clock = trio.testing.MockClock
PROMPT = 90
ROUTES: dict[str, dict[str, Any]] = {
    "/api/chat": {"model": "m1", "messages": SAY_HI},
    "/api/generate": {"model": "m1", "prompt": "hi"},
    **{speech.path: speech.body for speech in SSE},
}


@pytest.mark.parametrize("cached", [None, 0, 80, PROMPT])
@pytest.mark.parametrize("path", ROUTES)
async def test_every_dialect_leaves_the_same_record(
    autojump_clock: Clock, path: str, cached: int | None
) -> None:
    """A prompt has all its tokens, cached ones are part of it, and an absent count is null.

    Responses have no absent count: there a 0 stands for it.
    """
    model = Model("m1:latest", prompt_tokens=PROMPT, cached_prompt=cached)
    async with open_scenario({"a": Simulator((model,))}) as scenario:
        for streams in (True, False):
            reply = await scenario.ask(path, {**ROUTES[path], "stream": streams})
            assert reply.status == 200

    found = [(record.prompt_tokens, record.cached_tokens) for record in scenario.records]
    told = cached or None if path == "/v1/responses" else cached
    assert found == [(PROMPT, told)] * 2


async def test_the_second_turn_of_a_conversation(autojump_clock: Clock) -> None:
    """Its record has the tokens that the machine had read before, and its first chunk is sooner."""
    model = Model("m1:latest", cache=0, prompt_speed=1000)
    asked, more = ({"role": "user", "content": text} for text in ("x" * 4000, "and?"))
    async with open_scenario({"a": Simulator((model,))}) as scenario:
        said = await scenario.ask(body={"model": "m1", "messages": [asked]})
        turn = [asked, {"role": "assistant", "content": said.text}, more]
        await scenario.ask(body={"model": "m1", "messages": turn})

    first, second = scenario.records
    assert (first.prompt_tokens, first.cached_tokens) == (1010, 0)
    assert (second.prompt_tokens, second.cached_tokens) == (1013, 1012)
    assert first.ttft == pytest.approx(1.01)
    assert second.ttft == pytest.approx(0.001)


async def test_a_budget_is_charged_cached_tokens_once(autojump_clock: Clock) -> None:
    """The budget pays for the whole prompt, whatever part of it was cached."""
    async with limited(KeyLimits(tokens_per_day=1_000_000)) as key:
        key.scenario.simulators["a"].script(reporting(PROMPT, 80))
        await key.ask("/api/chat", {**CHAT, "stream": False})
        usage = await key.usage()

    [record] = key.scenario.records
    assert usage.day == PROMPT + 2
    assert (record.prompt_tokens, record.cached_tokens) == (PROMPT, 80)


async def test_metrics_tell_hits_from_misses(autojump_clock: Clock) -> None:
    """Tokens count as hit or miss where the backend tells, and as unknown elsewhere."""
    async with open_scenario() as scenario:
        for cached in (80, 0, None):
            scenario.simulators["a"].script(reporting(PROMPT, cached))
            await scenario.ask(body={**CHAT, "stream": False})
        page = await scenario.ask("/metrics", method="GET", is_admin=True)

    labels = 'ollama_gateway_prompt_tokens_total{backend="a",cache="%s",model="m1:latest"} %s'
    lines = page.body.decode().splitlines()
    for cache, tokens in (("hit", 80.0), ("miss", 100.0), ("unknown", 90.0)):
        assert labels % (cache, tokens) in lines


async def test_a_second_report_replaces_the_first(autojump_clock: Clock) -> None:
    """A stream that reports twice leaves the counts of one report, not a mixture."""
    lines = [told(PROMPT, 80, done=False), told(50, None, done=True)]
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(raw("application/x-ndjson", b"".join(lines)))
        await scenario.ask()

    [record] = scenario.records
    assert (record.prompt_tokens, record.cached_tokens) == (50, None)


def reporting(prompt: int, cached: int | None) -> Script:
    """Return a whole answer with these counts."""
    return raw("application/json", told(prompt, cached, done=True))


def told(prompt: int, cached: int | None, *, done: bool) -> bytes:
    """Return a line of Ollama's own API that reports these counts."""
    counts = {"prompt_eval_count": prompt, "eval_count": 2}
    if cached is not None:
        counts["prompt_eval_cached_count"] = cached
    message = {"role": "assistant", "content": "Hi"}
    # The order keeps the line from being recognised by its first bytes alone.
    return json.dumps({"done": done, "model": "m1", "message": message, **counts}).encode() + b"\n"


def raw(kind: str, body: bytes) -> Script:
    """Return an answer of these bytes."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return Script(raw=head.encode() + body)
