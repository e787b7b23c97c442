"""Requests of keys with limits: their refusals, their charges, and nothing held at the end."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing

from ollama_gateway.keys.key import KeyLimits
from ollama_gateway.simulator import Model
from tests.flow.limited import PROMPT, limited
from tests.flow.test_scenarios import OPENAI
from tests.support.scenario import CHAT, open_scenario

Clock = trio.testing.MockClock
USAGE = {"stream_options": {"include_usage": True}}
"""The field that the gateway adds to a streamed OpenAI request."""


async def test_a_key_without_limits_asks_no_store(autojump_clock: Clock) -> None:
    """Its request passes unchanged, nothing is counted, and no header speaks of limits."""
    async with limited(KeyLimits()) as key:
        reply = await key.ask()
        usage = await key.usage()

    assert not [name for name in reply.headers if name.startswith("x-ratelimit")]
    assert json.loads(key.seen().body) == CHAT
    assert (usage.admissions, usage.day) == (0, 0)


@pytest.mark.parametrize(
    ("limits", "reason", "text", "retry_after"),
    [
        (KeyLimits(requests_per_minute=1), "rate", "limit of 1 requests a minute is reached", "57"),
        (
            KeyLimits(concurrent_requests=1),
            "concurrency",
            "limit of 1 requests at once is reached",
            "1",
        ),
        (KeyLimits(tokens_per_day=PROMPT + 256), "budget", "tokens a day has no room", None),
        (KeyLimits(tokens_per_month=PROMPT + 256), "budget", "tokens a month has no room", None),
    ],
)
async def test_a_refusal_says_which_limit_and_when_to_come_back(
    autojump_clock: Clock,
    limits: KeyLimits,
    reason: str,
    text: str,
    retry_after: str | None,
) -> None:
    """It is a 429 in the path's dialect, with Retry-After and a reason in the record."""
    async with limited(limits) as key, trio.open_nursery() as nursery:
        if reason == "concurrency":
            nursery.start_soon(key.ask)
            await trio.sleep(0.5)
        else:
            await key.ask()
        native = await key.ask()
        openai = await key.ask("/v1/chat/completions", OPENAI)

    assert (native.status, openai.status) == (429, 429)
    assert text in native.document["error"]
    assert text in openai.document["error"]["message"]
    assert native.headers["retry-after"] == retry_after or retry_after is None
    assert int(native.headers["retry-after"]) >= 1
    refused = [record for record in key.scenario.records if record.status == 429]
    assert [(record.outcome, record.reason, record.attempts) for record in refused] == [
        ("refused", reason, []),
        ("refused", reason, []),
    ]


async def test_the_headers_are_openais(autojump_clock: Clock) -> None:
    """Answers and refusals have limit, remaining and reset of requests and tokens."""
    async with limited(
        KeyLimits(requests_per_minute=2, tokens_per_day=9000, tokens_per_month=8000)
    ) as key:
        first = await key.ask()
        whole = {**OPENAI, "stream": False, "max_tokens": 300}
        second = await key.ask("/v1/chat/completions", whole)
        third = await key.ask()

    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert first.headers["x-ratelimit-reset-requests"] == "1m0s"
    assert first.headers["x-ratelimit-limit-tokens"] == "8000"
    assert first.headers["x-ratelimit-remaining-tokens"] == str(8000 - PROMPT - 4096)
    left = int(second.headers["x-ratelimit-remaining-tokens"])
    assert left == 8000 - 14 - (len(json.dumps(whole)) + 128 + 16 + 300)
    assert (third.status, third.headers["x-ratelimit-remaining-requests"]) == (429, "0")
    assert third.headers["x-ratelimit-remaining-tokens"] == str(8000 - 2 * 14)


@pytest.mark.parametrize(
    ("path", "body", "upstream"),
    [
        ("/api/chat", CHAT, {**CHAT, "options": {"num_predict": 4096}}),
        (
            "/api/chat",
            {**CHAT, "options": {"seed": 1, "num_predict": 7}},
            {**CHAT, "options": {"seed": 1, "num_predict": 7}},
        ),
        (
            "/api/chat",
            {**CHAT, "options": {"num_predict": -1}},
            {**CHAT, "options": {"num_predict": 4096}},
        ),
        ("/api/generate", {"model": "m1", "prompt": "hi", "OPTIONS": None}, None),
        ("/v1/chat/completions", OPENAI, {**OPENAI, **USAGE, "max_tokens": 4096}),
        (
            "/v1/chat/completions",
            {**OPENAI, "max_completion_tokens": 9},
            {**OPENAI, **USAGE, "max_completion_tokens": 9, "max_tokens": 9},
        ),
        (
            "/v1/responses",
            {"model": "m1", "input": "hi", "max_tokens": 3, "MAX_OUTPUT_TOKENS": -1},
            {"model": "m1", "input": "hi", "max_tokens": 3, "MAX_OUTPUT_TOKENS": 4096},
        ),
        ("/v1/messages", {**CHAT, "max_tokens": 9}, {**CHAT, "max_tokens": 9}),
        (
            "/v1/completions",
            {"model": "m1", "prompt": "hi", "max_tokens": 0},
            {"model": "m1", "prompt": "hi", "max_tokens": 4096},
        ),
    ],
)
async def test_the_bound_of_the_answer_goes_upstream(
    autojump_clock: Clock, path: str, body: dict[str, Any], upstream: dict[str, Any] | None
) -> None:
    """The backend reads the reserved bound in its dialect's own field."""
    async with limited(KeyLimits(tokens_per_day=100_000)) as key:
        reply = await key.ask(path, body)
        seen = json.loads(key.seen().body)

    assert reply.status == 200
    assert seen == (upstream or {**body, "OPTIONS": {"num_predict": 4096}})


async def test_an_answer_shrinks_to_the_room_left(autojump_clock: Clock) -> None:
    """If the budget has less left, the backend gets a smaller bound and writes less."""
    talker = Model("m1:latest", tokens=("x",) * 1000)
    budget = PROMPT + 300
    async with limited(KeyLimits(tokens_per_day=budget), models=(talker,)) as key:
        reply = await key.ask(body=CHAT)
        usage = await key.usage()

    assert json.loads(key.seen().body)["options"] == {"num_predict": 300}
    assert (len(reply.lines), reply.lines[-1]["done_reason"]) == (301, "length")
    assert usage.day == 311


async def test_options_that_cannot_hold_the_bound_are_refused(autojump_clock: Clock) -> None:
    """A body into which no bound can be written is a 400, and nothing stays held."""
    async with limited(KeyLimits(tokens_per_day=100_000)) as key:
        reply = await key.ask(body={**CHAT, "options": [1]})
        usage = await key.usage()

    assert (reply.status, reply.document) == (400, {"error": "options must be an object"})
    assert usage.day == 0


async def test_what_is_refused_before_its_turn_costs_nothing(autojump_clock: Clock) -> None:
    """A missing model, a wrong body and backends that are down do not count against the rate."""
    async with limited(KeyLimits(requests_per_minute=1, tokens_per_day=10_000)) as key:
        statuses = [
            (await key.ask(body={**CHAT, "model": "nope"})).status,
            (await key.ask(body=b"{")).status,
        ]
        usage = await key.usage()
        statuses.append((await key.ask()).status)

    assert statuses == [403, 400, 200]
    assert (usage.admissions, usage.day) == (0, 0)


async def test_reading_is_not_limited(autojump_clock: Clock) -> None:
    """Lists and descriptions are neither counted nor limited."""
    async with limited(KeyLimits(requests_per_minute=1, concurrent_requests=1)) as key:
        await key.ask()
        statuses = [
            (await key.ask("/api/show", {"model": "m1"})).status,
            (await key.ask("/api/tags", method="GET")).status,
            (await key.ask()).status,
        ]

    assert statuses == [200, 200, 429]


async def test_the_settings_limit_keys_that_set_nothing(autojump_clock: Clock) -> None:
    """A default applies to a key that sets no limit, and 0 in the key removes it."""
    default = {"GATEWAY_LIMITS_REQUESTS_PER_MINUTE": "1"}
    async with open_scenario(settings=default) as scenario:
        statuses = [(await scenario.ask()).status for _ in range(2)]
    async with limited(KeyLimits(requests_per_minute=0), settings=default) as key:
        lifted = [(await key.ask()).status for _ in range(2)]

    assert (statuses, lifted) == ([200, 429], [200, 200])


async def test_the_operator_sees_how_limits_stand(autojump_clock: Clock) -> None:
    """`/limits/KEY_ID` shows the limits in force, and `/metrics` counts refusals."""
    async with limited(KeyLimits(requests_per_minute=1, tokens_per_day=9000)) as key:
        for _ in range(2):
            await key.ask()
        shown = await key.ask(f"/limits/{key.key_id}", method="GET", is_admin=True)
        unknown = await key.ask("/limits/nobody", method="GET", is_admin=True)
        status = await key.ask("/status.json", method="GET", is_admin=True)
        metrics = await key.ask("/metrics", method="GET", is_admin=True)

    assert shown.document["store"] == "memory"
    assert shown.document["limits"]["day"]["used"] == 14
    assert shown.document["limits"]["day"]["left"] == 8986
    assert shown.document["limits"]["rate"] == {"limit": 1, "used": 1, "left": 0, "reset_s": 57.0}
    assert unknown.status == 404
    assert status.document["limits"]["store"] == "memory"
    assert b'ollama_gateway_limited_total{limit="rate"} 1.0' in metrics.body


async def test_many_at_once_never_exceed_their_limits(autojump_clock: Clock) -> None:
    """Of fifty requests at once, as many are served as there are places, and the others wait."""
    async with limited(KeyLimits(concurrent_requests=4)) as key:
        statuses: list[int] = []

        async def ask() -> None:
            statuses.append((await key.ask()).status)

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(ask)
        most = max(simulator.most_in_flight for simulator in key.scenario.simulators.values())

    assert (statuses.count(200), statuses.count(429), most) == (4, 46, 4)
