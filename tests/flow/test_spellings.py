"""No spelling of a request gets more out of a backend than the key's budget has room for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

import pytest
import trio.testing

from ollama_gateway.keys.key import KeyLimits
from ollama_gateway.simulator import Model, Simulator
from tests.flow.limited import limited
from tests.support.scenario import open_scenario

BUDGET: Final = 500
TALKER: Final = Model("m1:latest", ("x",) * 2 * BUDGET)
"""Reports its prompts, and stops only at the bound it is given."""
SAID: Final = '"messages":[{"role":"user","content":"hi"}]'
BOUNDS: Final = ("-1", "-2", "0", "0.1", "999", "9e2", "1e18", '"9"', "true", "null", "[9]", "{}")
PICTURE: Final = "iVBORw0KGgo/+" * 3300


def bodies() -> Iterator[tuple[str, str]]:
    """Return routes, and bodies that try to override the written bound."""
    for bound in BOUNDS:
        yield (
            "/api/chat",
            f'{{"model":"m1",{SAID},"options":{{"num_predict":5,"num_predict":{bound}}}}}',
        )
        yield "/api/chat", f'{{"model":"m1",{SAID},"option\u017f":{{"Num_Predict":{bound}}}}}'
        yield "/api/generate", f'{{"model":"m1","prompt":"hi","options":{{"num_predict":{bound}}}}}'
        yield "/v1/chat/completions", f'{{"model":"m1",{SAID},"MAX_TO\u212aENS":{bound}}}'
        yield "/v1/chat/completions", f'{{"model":"m1",{SAID},"max_completion_tokens":{bound}}}'
        yield "/v1/responses", f'{{"model":"m1","input":"hi","max_output_token\u017f":{bound}}}'
        yield "/v1/messages", f'{{"model":"m1",{SAID},"max_token\u017f":{bound}}}'
        yield (
            "/v1/messages",
            f'{{"model":"m1",{SAID},"max_tokens":5,"Options":{{"num_predict":{bound}}}}}',
        )


async def test_no_bound_can_be_spelt_past_a_budget(autojump_clock: trio.testing.MockClock) -> None:
    """However the bound is spelt, the backend generates no more than was granted."""
    async with open_scenario({"a": Simulator([TALKER])}) as scenario:
        for number, (path, body) in enumerate(bodies()):
            _, key = scenario.store.create(f"k{number}", limits=KeyLimits(tokens_per_day=BUDGET))
            before = scenario.simulators["a"].figures
            await scenario.ask(path, body.encode(), key=key)
            after = scenario.simulators["a"].figures
            used = after.completion_tokens - before.completion_tokens
            assert used + after.prompt_tokens - before.prompt_tokens <= BUDGET, (path, body)


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_a_large_body_is_bounded_and_arrives_with_its_pictures(
    autojump_clock: trio.testing.MockClock, path: str
) -> None:
    """It is measured without its pictures, sent with them, and charged as a whole."""
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
    says = {"content": "hi", "images": [PICTURE]} if path == "/api/chat" else {"content": [url]}
    body = {"model": "m1", "messages": [{"role": "user", **says}], "stream": True}
    model = Model("m1:latest", context_length=10**6)
    async with limited(KeyLimits(tokens_per_day=20_000), models=(model,)) as key:
        reply = await key.ask(path, body)
        seen = json.loads(key.seen().body)

    assert reply.status == 200
    bound = {"options": seen.pop("options")} if path == "/api/chat" else seen.pop("max_tokens")
    assert bound in ({"options": {"num_predict": 4096}}, 4096)
    seen.pop("stream_options", None)
    assert seen == body
    assert key.scenario.records[-1].bytes_in == len(json.dumps(body))


async def test_words_that_look_like_a_picture_are_charged(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A budget below the context of 8192 has no room for long text that looks like base64."""
    body = {"model": "m1", "messages": [{"role": "user", "content": PICTURE}]}
    async with limited(KeyLimits(tokens_per_day=8000)) as key:
        reply = await key.ask("/api/chat", body)

    assert reply.status == 429
