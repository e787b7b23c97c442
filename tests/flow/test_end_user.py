"""A key may name the field of the body that holds the end user."""

from __future__ import annotations

import pytest
import trio.testing

from ollama_gateway.keys.key import WrongValue
from tests.flow.dialects import MESSAGES
from tests.support.scenario import open_scenario

Clock = trio.testing.MockClock


@pytest.mark.parametrize(
    ("more", "user"),
    [
        ({"metadata": {"user_id": "user_1"}}, "user_1"),
        ({"metadata": {"user_id": "a\nb\x1b" + "x" * 500}}, "ab" + "x" * 252),
        ({"metadata": {"user_id": 5}}, None),
        ({"metadata": "user_1"}, None),
        ({"metadata": None}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("filler", [0, 300_000], ids=["small", "large"])
async def test_the_record_has_it(
    autojump_clock: Clock, more: dict[str, object], user: str | None, filler: int
) -> None:
    """The record has the user, bounded and on one line, from small and large bodies."""
    body = {**MESSAGES.body, "system": "y" * filler, **more}
    async with open_scenario() as scenario:
        _, key = scenario.store.create("claude", user_header="body:metadata.user_id")
        reply = await scenario.ask(MESSAGES.path, body, key=key)

    assert reply.status in {200, 400}
    assert scenario.records[0].end_user == user


@pytest.mark.parametrize("name", ["body:", "body:a..b", "body:a.b.c.d.e", "body:A", "header:x"])
async def test_a_field_that_is_none_is_refused(autojump_clock: Clock, name: str) -> None:
    """A field has one to four names in lower case."""
    async with open_scenario() as scenario:
        with pytest.raises(WrongValue):
            scenario.store.create("claude", user_header=name)
