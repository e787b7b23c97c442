"""The charges of requests, and that a finished request holds nothing."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from ollama_gateway.keys.key import KeyLimits
from ollama_gateway.simulator import Model, Script, Simulator
from tests.flow.limited import BODY, PROMPT, limited
from tests.support.scenario import CHAT

Clock = trio.testing.MockClock
ESTIMATE = BODY // 4
"""Tokens of the prompt if no backend reports them."""


@pytest.mark.parametrize(
    ("scripts", "leave_at", "spent", "source"),
    [
        ({}, None, 14, "reported"),
        ({}, 0.5, ESTIMATE, "counted"),
        ({}, 1.5, ESTIMATE + 1, "counted"),
        ({}, 2.5, ESTIMATE + 2, "counted"),
        ({"a": Script(status=500), "b": Script(status=500)}, None, 0, None),
        ({"a": Script(status=400, error="no")}, None, 0, None),
        ({"a": Script(cut_after=0)}, None, 14, "reported"),
        ({"a": Script(cut_after=2)}, None, ESTIMATE + 2, "counted"),
        ({"a": Script(error_after=1, error="x")}, None, ESTIMATE + 1, "counted"),
        ({"a": Script(no_done=True)}, None, ESTIMATE + 3, "counted"),
        ({"a": Script(hang_after=0)}, None, ESTIMATE, "counted"),
        ({"a": Script(hang_after=1)}, None, ESTIMATE + 1, "counted"),
    ],
)
async def test_what_is_charged(
    autojump_clock: Clock,
    scripts: dict[str, Script],
    leave_at: float | None,
    spent: int,
    source: str | None,
) -> None:
    """A request pays the reported usage, else a count if work had begun, else nothing."""
    deadlines = {"GATEWAY_RACE_FIRST_CHUNK_TIMEOUT": "9s", "GATEWAY_RACE_IDLE_TIMEOUT": "9s"}
    async with limited(KeyLimits(tokens_per_day=100_000), settings=deadlines) as key:
        for name, script in scripts.items():
            key.scenario.simulators[name].script(script)
        await key.ask(leave_at=leave_at)
        usage = await key.usage()
        usage_journal = key.scenario.gateway.admin.limits.usage_journal.totals()

    (record,) = key.scenario.records
    assert usage.day == usage.month == spent
    assert record.tokens_source == source
    assert (record.prompt_tokens or 0) + (record.completion_tokens or 0) == spent
    assert sum(usage_journal.get(key.key_id, {}).values()) == spent


async def test_a_drain_charges_what_was_relayed(autojump_clock: Clock) -> None:
    """A stream that a shutdown ends costs the part that was relayed."""
    async with limited(KeyLimits(tokens_per_day=100_000)) as key, trio.open_nursery() as nursery:
        nursery.start_soon(key.ask)
        await trio.sleep(1.5)
        key.scenario.gateway.app.drain(0.2)
        await trio.sleep(1)
        usage = await key.usage()

    assert (usage.open, usage.day) == (0, ESTIMATE + 1)
    assert key.scenario.records[0].reason == "draining"


@pytest.mark.parametrize("tenths", range(36))
async def test_a_client_may_leave_at_any_moment(autojump_clock: Clock, tenths: int) -> None:
    """Whenever it leaves, its place is free and its budget has the tokens of its record."""
    async with limited(KeyLimits(concurrent_requests=1, tokens_per_day=100_000)) as key:
        await key.ask(leave_at=tenths / 10 + 0.05)
        usage = await key.usage()

    (record,) = key.scenario.records
    assert usage.open == 0
    assert usage.day == (record.prompt_tokens or 0) + (record.completion_tokens or 0)


@pytest.mark.parametrize("body", [CHAT, {**CHAT, "stream": False}])
async def test_who_has_the_answer_has_the_place_back(
    autojump_clock: Clock, body: dict[str, Any]
) -> None:
    """With a concurrency of one, a client may ask again once its last byte is sent."""
    async with limited(KeyLimits(concurrent_requests=1)) as key:
        open_at_the_end = []
        scenario = key.scenario

        async def watch() -> None:
            while not scenario.records:
                await trio.testing.wait_all_tasks_blocked()
                open_at_the_end.append((await key.usage()).open)
                await trio.sleep(0.25)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            first = await key.ask(body=body)
            second = await key.ask(body=body)

    assert (first.status, second.status) == (200, 200)
    assert open_at_the_end[0] == 1


async def test_a_place_is_free_before_the_last_bytes_leave(autojump_clock: Clock) -> None:
    """A client that reads the end of its answer slowly no longer holds its place."""
    async with limited(KeyLimits(concurrent_requests=1)) as key:
        seen: list[int] = []
        original = key.scenario.gateway.listener.app

        async def app(scope: Any, receive: Any, send: Any) -> None:
            async def slow_send(event: Any) -> None:
                if b'"done":true' in event.get("body", b""):
                    seen.append((await key.usage()).open)
                await send(event)

            await original(scope, receive, slow_send)

        key.scenario.gateway.listener.app = app
        await key.ask()

    assert seen == [0]


async def test_usage_above_the_bound_raises_the_bound(autojump_clock: Clock) -> None:
    """Usage above the bound is charged, and the model's next request reserves more."""
    model = Model("m1:latest", tokens=("a",), hidden_prompt=2000)
    async with limited(KeyLimits(tokens_per_day=100_000), models=(model,)) as key:
        first = await key.ask()
        second = await key.ask()
        usage = await key.usage()

    spent = 2000 + 11 + 1
    left = [int(reply.headers["x-ratelimit-remaining-tokens"]) for reply in (first, second)]
    assert left[0] == 100_000 - PROMPT - 4096
    assert left[1] == 100_000 - spent - 2011 - 4096
    assert usage.day == 2 * spent


@pytest.mark.parametrize(
    ("path", "body", "bound", "spent"),
    [
        ("/api/embed", {"model": "m1", "input": ["a", "bcd"]}, 9 + 11, None),
        ("/v1/embeddings", {"model": "m1", "input": "abcd"}, 12, None),
        ("/api/embed", {"model": "m1", "input": ["x" * 100_000]}, 8192, None),
        ("/api/embeddings", {"model": "m1", "prompt": "x" * 40}, 48, 10),
    ],
)
async def test_embeddings_reserve_their_inputs(
    autojump_clock: Clock, path: str, body: dict[str, Any], bound: int, spent: int | None
) -> None:
    """Each input is bounded by its bytes and the context; unreported usage is estimated."""
    async with limited(
        KeyLimits(tokens_per_day=100_000), {"a": Simulator([Model("m1:latest")])}
    ) as key:
        reply = await key.ask(path, body)
        usage = await key.usage()

    (record,) = key.scenario.records
    assert int(reply.headers["x-ratelimit-remaining-tokens"]) == 100_000 - bound
    assert usage.day == (record.prompt_tokens if spent is None else spent)
    assert record.tokens_source == ("reported" if spent is None else "counted")


async def test_a_template_of_the_clients_reserves_the_context(autojump_clock: Clock) -> None:
    """A template can repeat the prompt without limit, so the bound is the model's context."""
    async with limited(KeyLimits(tokens_per_day=100_000)) as key:
        body = {"model": "m1", "prompt": "hi", "template": "{{ .Prompt }}{{ .Prompt }}"}
        reply = await key.ask("/api/generate", body)

    assert int(reply.headers["x-ratelimit-remaining-tokens"]) == 100_000 - 8192 - 4096
