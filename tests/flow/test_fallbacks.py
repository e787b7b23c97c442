"""An alias of several models, in virtual time: the next one is asked if there is no other way."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
import trio
import trio.testing

from ollama_gateway.keys.key import KeyLimits
from ollama_gateway.simulator import Model, Script, Simulator
from tests.flow.test_aliases import BODIES, STREAMS, aliases, names_in
from tests.support.scenario import Scenario, open_scenario

Clock = trio.testing.MockClock
CHAIN = aliases({"smart": ["big:1", "mid:1", "small:1"], "other": "small:1"})
SPILL = aliases({"smart": {"models": ["big:1", "mid:1"], "on_full": True}})
LONG = 20
SAY = [{"role": "user", "content": "hi"}]
CHAT = {"model": "smart", "messages": SAY}


def model(name: str, context: int = 8192) -> Model:
    """Return a model that writes for 20 s after 1 s."""
    words = tuple("word" for _ in range(LONG))
    return Model(name, tokens=words, first_token=1, between_tokens=1, context_length=context)


def simulators(**hosted: str) -> dict[str, Simulator]:
    """Return backends by name, which host these models (by their first letters)."""
    full = {"b": "big:1", "m": "mid:1", "s": "small:1"}
    return {name: Simulator([model(full[c]) for c in letters]) for name, letters in hosted.items()}


def attempts(scenario: Scenario) -> list[str]:
    """Return the backends of the only record's attempts, in order."""
    return [attempt.backend for attempt in scenario.records[-1].attempts]


@pytest.mark.parametrize("path", BODIES)
async def test_a_model_that_fails_everywhere_is_followed_by_the_next(
    autojump_clock: Clock, path: str
) -> None:
    """On every route both backends of the first model are tried, then the second model."""
    async with open_scenario(simulators(a="bm", b="b"), settings=CHAIN) as scenario:
        for name in "ab":
            scenario.simulators[name].script(Script(status=500), model="big:1")
        reply = await scenario.ask(path, {"model": "smart", **BODIES[path], "stream": False})
        (record,) = scenario.records

    assert (reply.status, attempts(scenario)) == (200, ["a", "b", "a"])
    assert (record.model, record.backend, record.alias) == ("mid:1", "a", "smart")
    assert [attempt.model for attempt in record.attempts] == ["big:1", "big:1", "mid:1"]
    assert names_in(reply) <= {"smart"}
    assert reply.headers["x-gateway-model"] == "mid:1"


@pytest.mark.parametrize("path", STREAMS)
async def test_a_stream_falls_back_before_its_first_chunk(autojump_clock: Clock, path: str) -> None:
    """A stream that breaks before its first chunk is answered by the next model, unnoticed."""
    async with open_scenario(simulators(a="bm"), settings=CHAIN) as scenario:
        scenario.simulators["a"].script(Script(cut_after=0), model="big:1")
        reply = await scenario.ask(path, {"model": "smart", **BODIES[path], "stream": True})

    assert (reply.status, reply.is_complete, names_in(reply)) == (200, True, {"smart"})
    assert scenario.records[0].model == "mid:1"


async def test_after_the_first_chunk_there_is_no_other_model(autojump_clock: Clock) -> None:
    """A stream that breaks later ends in an error."""
    async with open_scenario(simulators(a="bm", b="b"), settings=CHAIN) as scenario:
        scenario.simulators["a"].script(Script(cut_after=2), model="big:1")
        reply = await scenario.ask(body=CHAT)

    assert (reply.status, attempts(scenario)) == (200, ["a"])
    assert "error" in reply.lines[-1]
    assert scenario.records[0].outcome == "upstream_failed"


async def test_a_model_whose_backends_are_down_is_skipped(autojump_clock: Clock) -> None:
    """The next model is asked at once; without any it is a 503 that names the alias alone."""
    async with open_scenario(simulators(a="b", b="m"), settings=CHAIN) as scenario:
        scenario.simulators["a"].go_down()
        for _ in range(3):
            await scenario.poll()
        served = await scenario.ask(body={**CHAT, "stream": False})
        scenario.simulators["b"].go_down()
        for _ in range(3):
            await scenario.poll()
        refused = await scenario.ask(body=CHAT)
        first, second = scenario.records

    assert (served.status, [a.backend for a in first.attempts]) == (200, ["b"])
    assert (refused.status, second.reason, second.alias) == (503, "backends_down", "smart")
    assert b"big" not in refused.body


async def test_a_request_that_is_wrong_is_not_sent_to_another_model(
    autojump_clock: Clock,
) -> None:
    """A 400 is the client's own, and the answer."""
    async with open_scenario(simulators(a="bm"), settings=CHAIN) as scenario:
        scenario.simulators["a"].script(Script(status=400, error="bad"), model="big:1")
        reply = await scenario.ask(body=CHAT)

    assert (reply.status, attempts(scenario)) == (400, ["a"])


async def test_attempts_count_for_all_models_together(autojump_clock: Clock) -> None:
    """Three attempts are made at most, whatever the number of models."""
    async with open_scenario(simulators(a="bms", b="b"), settings=CHAIN) as scenario:
        for name in "ab":
            scenario.simulators[name].script(Script(status=500), times=None)
        reply = await scenario.ask(body=CHAT)

    assert (reply.status, attempts(scenario)) == (500, ["a", "b", "a"])
    assert scenario.records[0].model == "mid:1"


async def test_one_deadline_covers_all_models(autojump_clock: Clock) -> None:
    """The first chunk must come in time, whichever model it is of."""
    settings = {**CHAIN, "GATEWAY_RACE_FIRST_CHUNK_TIMEOUT": "10s"}
    async with open_scenario(simulators(a="bm"), settings=settings) as scenario:
        scenario.simulators["a"].script(Script(before=6, status=500), model="big:1")
        scenario.simulators["a"].script(Script(before=6), model="mid:1")
        began = trio.current_time()
        reply = await scenario.ask(body=CHAT)

    assert (reply.status, reply.ended_at) == (504, began + 10)
    assert attempts(scenario) == ["a", "a"]


async def test_a_hedge_stays_with_the_model(autojump_clock: Clock) -> None:
    """A slow first chunk is hedged on another backend that has the same model loaded."""
    async with open_scenario(simulators(a="b", b="mb", c="m"), settings=CHAIN) as scenario:
        for name in "ab":
            await scenario.ask(
                body={"model": "big:1", "messages": [], "stream": False},
                headers=HEADERS[name],
                key=scenario.store.create(name, endpoints=ALL)[1],
            )
        await scenario.poll()
        scenario.simulators["a"].script(Script(before=30), model="big:1")
        reply = await scenario.ask(body=CHAT)
        hedge = scenario.records[-1].attempts[1]

    assert (reply.status, attempts(scenario), hedge.is_hedge) == (200, ["a", "b"], True)
    assert scenario.records[-1].model == "big:1"


HEADERS = {name: {"x-gateway-backend": name} for name in "ab"}
ALL = frozenset({"inference", "manage"})


@pytest.mark.parametrize(
    ("settings", "models", "ends"),
    [
        (CHAIN, ["big:1", "big:1", "big:1"], [20, 40, 60]),
        (SPILL, ["big:1", "mid:1", "big:1"], [20, 20, 40]),
    ],
)
async def test_a_full_model_is_waited_for_unless_the_alias_says_otherwise(
    autojump_clock: Clock, settings: Mapping[str, str], models: list[str], ends: list[int]
) -> None:
    """With `on_full` the next model takes what it can; the rest waits for the first."""
    async with open_scenario(simulators(a="b", b="m"), settings=settings, slots=1) as scenario:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in models:
                nursery.start_soon(scenario.ask, "/api/chat", CHAT)
                await trio.testing.wait_all_tasks_blocked()
        found = [(round(r.arrived + r.duration - began), r.model) for r in scenario.records]

    assert sorted(found) == list(zip(ends, models, strict=True))


async def test_a_full_model_gets_its_turn_after_the_next_one_failed(
    autojump_clock: Clock,
) -> None:
    """A request that passed a full model comes back to it when the others have failed."""
    async with open_scenario(simulators(a="b", b="m"), settings=SPILL, slots=1) as scenario:
        scenario.simulators["b"].script(Script(status=500), model="mid:1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scenario.ask, "/api/chat", {"model": "big:1", "messages": SAY})
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(scenario.ask, "/api/chat", CHAT)
        _, second = scenario.records

    assert (attempts(scenario), second.model, second.status) == (["b", "a"], "big:1", 200)


async def test_models_that_the_key_may_not_use_are_skipped(autojump_clock: Clock) -> None:
    """The chain of a key has only its own models."""
    async with open_scenario(simulators(a="bms"), settings=CHAIN) as scenario:
        _, key = scenario.store.create("narrow", ("big:1", "small:1"))
        scenario.simulators["a"].script(Script(status=500), model="big:1")
        reply = await scenario.ask(body=CHAT, key=key)

    assert (reply.status, attempts(scenario)) == (200, ["a", "a"])
    assert scenario.records[0].model == "small:1"


async def test_the_failure_of_one_model_is_not_blamed_when_another_answers(
    autojump_clock: Clock,
) -> None:
    """A request that fails with one model and not with the next one opens no breaker."""
    async with open_scenario(simulators(a="bm"), settings=CHAIN) as scenario:
        for _ in range(6):
            scenario.simulators["a"].script(Script(status=500), model="big:1")
            assert (await scenario.ask(body={**CHAT, "stream": False})).status == 200
        tried = [len(record.attempts) for record in scenario.records]

    assert tried == [2] * 6


async def test_the_dearest_model_bounds_the_reservation(autojump_clock: Clock) -> None:
    """A prompt with its own template may fill the largest context; the reservation is as large."""
    small, large = model("big:1", context=1000), model("mid:1", context=5000)
    body = {"model": "smart", "prompt": "x", "template": "t", "options": {"num_predict": 20}}
    async with open_scenario({"a": Simulator([small, large])}, settings=CHAIN) as scenario:
        limits = [KeyLimits(tokens_per_day=tokens) for tokens in (4000, 6000)]
        keys = [scenario.store.create(f"k{n}", limits=one)[1] for n, one in enumerate(limits)]
        refused, served = [await scenario.ask("/api/generate", body, key=key) for key in keys]

    assert (refused.status, served.status) == (429, 200)
    assert scenario.records[1].model == "big:1"
    assert json.loads(served.body.splitlines()[-1])["model"] == "smart"
