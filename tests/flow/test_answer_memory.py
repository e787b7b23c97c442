"""The memory of whole answers: one budget for all, and the behaviour without room."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from ollama_gateway.keys.key import KeyLimits
from ollama_gateway.simulator import Model, Script, Simulator
from ollama_gateway.wire.whole import PASS_ON_SIZE
from tests.flow.limited import limited
from tests.flow.test_whole_answers import EMBED, raw, sized
from tests.support.scenario import Reply, Scenario, open_scenario

Clock = trio.testing.MockClock
READ = 64 * 1024
"""Bytes that one read from a backend returns."""


def total(size: int) -> dict[str, str]:
    """The setting `server.max_answers_total`."""
    return {"GATEWAY_SERVER_MAX_ANSWERS_TOTAL": f"{size}"}


async def ask_at_once(scenario: Scenario, bodies: list[bytes]) -> tuple[list[Reply], int]:
    """Ask for all of these with slow readers; return the answers and the most bytes held."""
    replies: list[Reply] = []
    most = 0
    budget = scenario.gateway.parts.answers

    async def slowly(reply: Reply) -> None:
        nonlocal most
        most = max(most, budget.held)
        await trio.sleep(10 if len(reply.body) < 100_000 else 0)

    async def ask() -> None:
        replies.append(await scenario.ask("/api/embed", EMBED, watch=slowly))

    for body in bodies:
        for simulator in scenario.simulators.values():
            simulator.script(raw(body))
    async with trio.open_nursery() as nursery:
        for _ in bodies:
            nursery.start_soon(ask)
    assert budget.held == 0
    return replies, most


async def test_long_answers_hold_a_mebibyte_each(autojump_clock: Clock) -> None:
    """Eight answers to slow readers hold 8 MiB whatever their length, and nothing afterwards."""
    async with open_scenario({"a": Simulator([Model("m1:latest")])}) as scenario:
        replies, most = await ask_at_once(scenario, [sized(2 * PASS_ON_SIZE)] * 8)

    assert [reply.status for reply in replies] == [200] * 8
    assert {reply.is_complete for reply in replies} == {True}
    assert PASS_ON_SIZE < most <= 8 * (PASS_ON_SIZE + READ)


async def test_without_room_a_good_answer_is_passed_on_at_once(autojump_clock: Clock) -> None:
    """All are served, and they hold at most the budget and one read each."""
    async with open_scenario(
        {"a": Simulator([Model("m1:latest")])}, settings=total(PASS_ON_SIZE)
    ) as scenario:
        replies, most = await ask_at_once(scenario, [sized(2 * PASS_ON_SIZE)] * 8)

    assert [(reply.status, len(reply.body)) for reply in replies] == [(200, 2 * PASS_ON_SIZE)] * 8
    assert most <= PASS_ON_SIZE + 8 * READ


@pytest.mark.parametrize("size", [300, 15_000, 17_000, 600_000])
async def test_an_answer_that_is_all_there_needs_no_room(autojump_clock: Clock, size: int) -> None:
    """A complete answer is sent even without room, since refusing it would gain nothing."""
    async with open_scenario(settings=total(1)) as scenario:
        scenario.simulators["a"].script(raw(sized(size)))
        reply = await scenario.ask("/api/embed", EMBED)

    assert (reply.status, reply.body == sized(size), reply.is_complete) == (200, True, True)


async def test_without_room_what_is_not_known_to_be_good_is_refused(autojump_clock: Clock) -> None:
    """It gets a 503 with Retry-After; its key pays nothing, and no other backend is asked."""
    body = sized(PASS_ON_SIZE, b'],"embeddings":[]}', b'{"pictures":[')
    async with limited(KeyLimits(tokens_per_day=100_000), settings=total(PASS_ON_SIZE // 2)) as key:
        key.scenario.simulators["a"].script(raw(body))
        reply = await key.ask("/api/embed", EMBED)
        usage = await key.usage()
        budget = key.scenario.gateway.parts.answers

    (record,) = key.scenario.records
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    assert reply.document == {"error": "the gateway holds too many answers, try again"}
    assert (record.outcome, record.reason, len(record.attempts)) == ("refused", "answers_full", 1)
    assert (usage.day, budget.held) == (0, 0)


@pytest.mark.parametrize(
    "script",
    [
        Script(status=500, error="no"),
        raw(sized(500_000), length=600_000),
        raw(b"x" * 100_000),
        raw(b'{"error":"no"}'),
        Script(hang_after=1),
    ],
)
async def test_nothing_stays_held(autojump_clock: Clock, script: Script) -> None:
    """However an attempt ends, it gives its memory back."""
    model = Model("m1:latest", capabilities=("embedding",), vector_length=50_000)
    async with open_scenario({"a": Simulator([model])}) as scenario:
        scenario.simulators["a"].script(script)
        await scenario.ask("/api/embed", EMBED, leave_at=60)

        assert scenario.gateway.parts.answers.held == 0


async def test_what_is_said_of_a_model_is_held_whole(autojump_clock: Clock) -> None:
    """`/api/show` is rewritten and cached, so nothing of it is passed on before its end."""
    body = sized(
        2 * PASS_ON_SIZE, b'],"modelfile":"FROM /m/blobs/sha256-ab"}', b'{"message":1,"tokens":['
    )
    held = []
    async with open_scenario({"a": Simulator([Model("m1:latest")])}) as scenario:
        scenario.simulators["a"].script(raw(body), path="/api/show")

        async def look(_: Reply) -> None:
            held.append(scenario.gateway.parts.answers.held)

        reply = await scenario.ask("/api/show", {"model": "m1", "verbose": True}, watch=look)
        assert scenario.gateway.parts.answers.held == 0

    assert reply.body == body.replace(b"/m/blobs/", b"")
    assert held == [0, len(reply.body)] or set(held) == {len(reply.body)}


async def test_a_long_answer_that_is_cut_is_charged_for_its_prompt(autojump_clock: Clock) -> None:
    """Embeddings whose client left cost their prompt, or the usage if it was reported first."""
    async with limited(KeyLimits(tokens_per_day=100_000)) as key:
        for start in (b'{"embeddings":[', b'{"prompt_eval_count":9,"embeddings":['):
            key.scenario.simulators["a"].script(raw(sized(3 * PASS_ON_SIZE, b"]}", start)))

            async def slowly(_: Reply) -> None:
                await trio.sleep(1)

            body = {"model": "m1", "input": "x" * 400}
            await key.ask("/api/embed", body, watch=slowly, leave_at=10.5)
        usage = await key.usage()

    found = [
        (record.prompt_tokens, record.completion_tokens, record.tokens_source)
        for record in key.scenario.records
    ]
    assert found == [(100, 0, "counted"), (9, 0, "reported")]
    assert usage.day == 109
