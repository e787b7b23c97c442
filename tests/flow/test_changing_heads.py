"""Advice about heads that change in each turn."""

from __future__ import annotations

import datetime as dt

import pytest

from ollama_gateway.flow.changing_heads import MAX_WATCHED, ChangingHeads
from ollama_gateway.keys.key import Principal
from ollama_gateway.wire.identity import conversation_of
from tests.support.scenario import open_scenario

LONG = "You are an agent. " * 500
SESSION = [(b"x-claude-code-session-id", b"one")]


def fields(head: str, text: str = "hello") -> dict[str, object]:
    """Return a request with a system text."""
    return {"system": head, "messages": [{"role": "user", "content": text}]}


class Watch:
    """Watched turns of one key, on days of the test's own."""

    def __init__(self, key_id: str = "k") -> None:
        self.day = dt.date(2026, 1, 1)
        self.heads = ChangingHeads(lambda: self.day)
        self.principal = Principal(key_id, "name", ("*",), frozenset())

    def turn(
        self, asked: dict[str, object], headers: list[tuple[bytes, bytes]] | None = None
    ) -> bool:
        """Note a turn; return whether the key is advised now."""
        named = SESSION if headers is None else headers
        conversation = conversation_of(self.principal.key_id, "m", named, asked)
        assert conversation is not None
        self.heads.note(self.principal, conversation, asked)
        return self.heads.is_advised(self.principal.key_id)


def billed(number: int) -> str:
    """Return a long head that begins with a checksum, which is another in each turn."""
    return f"x-billing: {number:08d}\n{LONG}"


def test_a_head_that_changes_in_each_turn_is_found() -> None:
    """The third change in a row counts, until the end of the day."""
    watch = Watch()
    advised = [watch.turn(fields(billed(number))) for number in range(5)]
    watch.day += dt.timedelta(days=1)

    assert advised == [False, False, False, True, True]
    assert not watch.heads.is_advised("k")
    assert watch.turn(fields(billed(9)))


@pytest.mark.parametrize(
    "heads",
    [
        # the same in each turn
        [LONG] * 9,
        # a change now and then
        [billed(number // 3) for number in range(12)],
        # an agent and its helpers
        [(LONG, "Summarise. " * 900, "Search. " * 900)[number % 3] for number in range(12)],
        # too short to matter
        [f"{number}" for number in range(12)],
    ],
)
def test_other_heads_are_no_reason_for_advice(heads: list[str]) -> None:
    """Only a long head that differs a little, turn after turn, cannot be cached."""
    watch = Watch()

    assert not any(watch.turn(fields(head)) for head in heads)


def test_only_conversations_with_a_name_are_watched() -> None:
    """Without a name, another head is another conversation."""
    watch = Watch()

    assert not any(watch.turn(fields(billed(number)), []) for number in range(9))


def test_only_the_last_conversations_are_watched() -> None:
    """A thousand others displace one."""
    watch = Watch()
    for number in range(3):
        watch.turn(fields(billed(number)))
    for number in range(MAX_WATCHED):
        watch.turn(fields(LONG), [(b"session-id", b"%d" % number)])

    assert not watch.turn(fields(billed(9)))


@pytest.mark.virtual_time
async def test_the_log_says_so_once_and_the_explanation_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line for a key and a day names the cure, and no word of the prompt."""
    async with open_scenario() as scenario:
        for number in range(6):
            asked = {"model": "m1", **fields(billed(number)), "max_tokens": 9}
            headers = {"x-claude-code-session-id": "one"}
            await scenario.ask("/v1/messages", asked, headers=headers)
        path = "/explain/m1?key=tester"
        found = await scenario.ask(path, method="GET", key=None, is_admin=True)

    lines = [line for line in capsys.readouterr().out.splitlines() if "ATTRIBUTION" in line]
    assert len(lines) == 1
    assert "billing" not in lines[0]
    assert "CLAUDE_CODE_ATTRIBUTION_HEADER=0" in found.document["advice"]
