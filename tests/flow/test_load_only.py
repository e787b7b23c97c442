"""Requests that only load or unload a model: they cost no tokens and need no budget."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio.testing

from ollama_gateway.keys.key import KeyLimits
from ollama_gateway.limits.quota import Grant, Quota, ReservationRequest
from ollama_gateway.simulator import Model, Simulator
from tests.flow.limited import Limited, limited

Clock = trio.testing.MockClock
M: dict[str, Any] = {"model": "m1"}
LOADS = [
    ("/api/generate", M),
    ("/api/generate", {**M, "prompt": "", "stream": False, "keep_alive": "10m"}),
    ("/api/generate", {**M, "keep_alive": "60s"}),
    ("/api/chat", {**M, "messages": []}),
    ("/api/chat", {**M, "messages": None, "options": {"num_ctx": 4096}}),
    ("/api/embed", {**M, "input": []}),
    ("/api/embed", {**M, "keep_alive": 90}),
    ("/api/embeddings", {**M, "prompt": ""}),
    ("/v1/completions", {**M, "prompt": ""}),
    ("/v1/chat/completions", {**M, "messages": [{"role": "user", "content": []}]}),
]


async def spend(key: Limited, tokens: int) -> None:
    """Spend some of the key's budget."""
    store = key.scenario.gateway.admin.limits.store
    grant = await store.reserve(
        ReservationRequest("before", key.key_id, Quota(tokens_per_day=tokens), tokens)
    )
    assert isinstance(grant, Grant)
    store.settle(grant.reservation, tokens)


@pytest.mark.parametrize(("path", "body"), LOADS)
async def test_a_load_needs_no_budget(
    autojump_clock: Clock, path: str, body: dict[str, Any]
) -> None:
    """With no token left it is served unchanged, costs nothing, and counts in the rate."""
    limits = KeyLimits(requests_per_minute=2, concurrent_requests=1, tokens_per_day=1000)
    async with limited(limits, {"a": Simulator([Model("m1:latest")])}) as key:
        await spend(key, 1000)
        reply = await key.ask(path, body)
        seen = json.loads(key.seen().body)
        usage = await key.usage()
        refused = await key.ask("/api/chat", {**M, "messages": [{"role": "user", "content": "x"}]})
        await key.ask(path, body)
        third = await key.ask(path, body)

    assert (reply.status, {**seen, "model": "m1"}) == (200, body)
    assert (usage.admissions, usage.day) == (1, 1000)
    assert (refused.status, third.status) == (429, 429)
    assert [record.reason for record in key.scenario.records] == [None, "budget", None, "rate"]
    assert key.scenario.records[0].usage_journal is None
    if path.startswith("/api/"):
        assert key.scenario.records[0].tokens_source is None


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/generate", {**M, "prompt": " "}),
        ("/api/generate", {**M, "system": "x"}),
        ("/api/generate", {**M, "images": ["aGk="]}),
        ("/api/generate", {**M, "template": "x"}),
        ("/api/chat", {**M, "messages": [{}]}),
        ("/v1/messages", {**M, "messages": [], "max_tokens": 1}),
        ("/v1/responses", {**M, "input": ""}),
        ("/v1/embeddings", {**M, "input": ""}),
        ("/api/embed", {**M, "input": [""]}),
    ],
)
async def test_what_may_have_it_write_needs_one(
    autojump_clock: Clock, path: str, body: dict[str, Any]
) -> None:
    """A request that may generate tokens does not count as a load."""
    async with limited(KeyLimits(tokens_per_day=1000)) as key:
        await spend(key, 1000)
        reply = await key.ask(path, body)

    assert (reply.status, key.scenario.records[0].reason) == (429, "budget")


async def test_a_large_chat_is_no_load(autojump_clock: Clock) -> None:
    """Its messages are read in parts and look empty at first, but they cost tokens."""
    words = [{"role": "user", "content": "word " * 1000} for _ in range(60)]
    async with limited(KeyLimits(tokens_per_day=1000)) as own:
        reply = await own.ask(body={"model": "m1", "messages": words})

        assert reply.status == 429
        assert own.scenario.records[0].reason == "budget"
