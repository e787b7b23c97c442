"""The prefix cache: what a machine has read before it need not read again, and it says so."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs
import pytest
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.simulator import Limits, Model, Simulator, memory_server
from ollama_gateway.simulator.prefix_cache import Held, PrefixCache, Slot
from ollama_gateway.simulator.prompts import TEMPLATE, Prompt, of_fields
from tests.simulator.client import ask

Clock = trio.testing.MockClock
SPEED = 1000.0
"""Tokens of a prompt in a second."""
MODEL = Model("m1", cache=0, prompt_speed=SPEED)


@attrs.define
class Machine:
    """A simulator, and the time of each first token."""

    simulator: Simulator
    connect: Any

    async def turn(self, *said: str, path: str = "/api/chat", **more: object) -> dict[str, Any]:
        """Send a conversation of user and assistant in turn; return the whole answer."""
        turns = zip(itertools.cycle(("user", "assistant")), said, strict=False)
        messages = [{"role": role, "content": text} for role, text in turns]
        body = {"model": "m1", "messages": messages, "stream": False, "max_tokens": 100, **more}
        stream = await self.connect()
        try:
            answer = await ask(stream, "POST", path, body)
        finally:
            await anyio.aclose_forcefully(stream)
        assert answer.status == 200
        found: dict[str, Any] = answer.document
        return found


@asynccontextmanager
async def machine(model: Model = MODEL, *, parallel: int = 1) -> AsyncIterator[Machine]:
    """Start a simulator that has its model loaded."""
    simulator = Simulator([model], limits=Limits(parallel=parallel))
    simulator.load("m1", -1)
    async with memory_server(simulator) as connect:
        yield Machine(simulator, connect)


def counts(answer: dict[str, Any]) -> tuple[int, int | None, float]:
    """Return the prompt's tokens, the cached ones, and the seconds to read the others."""
    seconds = round(answer["prompt_eval_duration"] / 1e9, 6)
    return answer["prompt_eval_count"], answer.get("prompt_eval_cached_count"), seconds


LONG, OTHER = "a" * 4000, "b" * 4000


async def test_the_next_turn_reads_only_what_is_new(autojump_clock: Clock) -> None:
    """All of the last turn is cached, the answer included, and the time is that of the rest."""
    async with machine() as one:
        first = counts(await one.turn(LONG))
        second = counts(await one.turn(LONG, "Hello", "more"))

    assert first == (TEMPLATE + 1000, 0, 1.01)
    assert second == (TEMPLATE + 1000 + 2 + 1, TEMPLATE + 1000 + 2, 0.001)


async def test_the_last_token_is_always_read(autojump_clock: Clock) -> None:
    """The same prompt again costs one token."""
    async with machine() as one:
        await one.turn(LONG)
        again = counts(await one.turn(LONG))

    assert again == (TEMPLATE + 1000, TEMPLATE + 999, 0.001)


async def test_another_conversation_takes_the_place_of_the_first(autojump_clock: Clock) -> None:
    """With one slot and no host cache, two conversations in turn share only the template."""
    async with machine() as one:
        await one.turn(LONG)
        await one.turn(OTHER)
        back = counts(await one.turn(LONG))

    assert back[1] == TEMPLATE


@pytest.mark.parametrize(("room", "cached"), [(5000, TEMPLATE + 999), (500, TEMPLATE)])
async def test_the_host_cache_keeps_what_a_slot_gives_up(
    room: int, cached: int, autojump_clock: Clock
) -> None:
    """A conversation that was displaced comes back from there, if there was room for it."""
    async with machine(attrs.evolve(MODEL, cache=room)) as one:
        await one.turn(LONG)
        await one.turn(OTHER)
        back = counts(await one.turn(LONG))

    assert back[1] == cached


async def test_two_slots_hold_two_conversations(autojump_clock: Clock) -> None:
    """A request gets the slot that shares most with it."""
    async with machine(parallel=2) as one:
        for text in (LONG, OTHER):
            await one.turn(text)
        found = [counts(await one.turn(text, "Hello", "more"))[1] for text in (LONG, OTHER, LONG)]

    assert found == [TEMPLATE + 1002] * 2 + [TEMPLATE + 1002]


async def test_a_slot_that_is_busy_is_not_shared(autojump_clock: Clock) -> None:
    """Two requests of one conversation at once: the second reads everything in another slot."""
    answers: list[dict[str, Any]] = []

    async def asked(one: Machine) -> None:
        answers.append(await one.turn(LONG))

    async with machine(parallel=2) as one, anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(asked, one)

    assert [counts(answer)[1] for answer in answers] == [0, 0]


async def test_a_client_that_leaves_leaves_what_was_read(autojump_clock: Clock) -> None:
    """After 0.4 s of reading, 400 tokens are in the slot."""
    async with machine() as one:
        with anyio.move_on_after(0.4):
            await one.turn(LONG)
        await anyio.sleep(0.1)
        rest = counts(await one.turn(LONG))

    assert rest[1] == 400


async def test_a_runner_takes_its_cache_along(autojump_clock: Clock) -> None:
    """After an unload everything is read again."""
    async with machine() as one:
        await one.turn(LONG)
        one.simulator.unload("m1")
        cold = counts(await one.turn(LONG))

    assert cold[1] == 0


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("/api/chat", lambda a: (a["prompt_eval_count"], a["prompt_eval_cached_count"])),
        (
            "/v1/chat/completions",
            lambda a: (
                a["usage"]["prompt_tokens"],
                a["usage"]["prompt_tokens_details"]["cached_tokens"],
            ),
        ),
        (
            "/v1/responses",
            lambda a: (
                a["usage"]["input_tokens"],
                a["usage"]["input_tokens_details"]["cached_tokens"],
            ),
        ),
        (
            "/v1/messages",
            lambda a: (
                a["usage"]["input_tokens"] + a["usage"]["cache_read_input_tokens"],
                a["usage"]["cache_read_input_tokens"],
            ),
        ),
    ],
)
async def test_every_dialect_tells_it(path: str, read: Any, autojump_clock: Clock) -> None:
    """The four fields have the same counts, whichever dialect the turn before had."""
    async with machine() as one:
        await one.turn(LONG)
        given: dict[str, object] = {"input": [{"role": "user", "content": LONG}]}
        more = given if path == "/v1/responses" else {}
        answer = await one.turn(LONG, path=path, **more)

    assert read(answer) == (TEMPLATE + 1000, TEMPLATE + 999)
    assert one.simulator.figures.cached_tokens == TEMPLATE + 999


async def test_an_older_version_does_not_tell(autojump_clock: Clock) -> None:
    """It caches all the same, which only the time shows."""
    async with machine(attrs.evolve(MODEL, tells_cached=False)) as one:
        await one.turn(LONG)
        again = counts(await one.turn(LONG))

    assert again == (TEMPLATE + 1000, None, 0.001)


async def test_tools_and_system_texts_come_first(autojump_clock: Clock) -> None:
    """As in templates: a change of the tools spoils the cache of the messages."""
    tools = [
        [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}]
        for name in ("one", "two")
    ]
    async with machine(attrs.evolve(MODEL, capabilities=("completion", "tools"))) as one:
        await one.turn(LONG, tools=tools[0])
        changed = counts(await one.turn(LONG, tools=tools[1]))

    assert changed[1] == TEMPLATE


texts = st.lists(st.text("ab", max_size=12), max_size=5).map(tuple)


def prompt_of(of: tuple[str, ...]) -> Prompt:
    """Return the prompt of a conversation with these messages."""
    messages = [{"role": "user", "content": text} for text in of]
    return of_fields(MODEL, {"messages": messages}, "messages")


@given(texts, texts)
def test_what_is_shared_is_a_prefix(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    """Never more than either has, all but the last token of a repetition, and no order matters."""
    first, second = prompt_of(one), prompt_of(other)
    shared = Held(first.texts, first.tokens).shared(second)

    assert 0 <= shared < second.tokens
    assert shared <= first.tokens
    assert Held(first.texts, first.tokens).shared(first) == first.tokens - 1


@given(st.lists(texts, max_size=12), st.integers(0, 100))
def test_one_slot_shares_with_the_last_prompt_and_the_host_cache_adds(
    order: list[tuple[str, ...]], room: int
) -> None:
    """Without a host cache only the last prompt counts; with one nothing is lost."""
    bare, hosted = PrefixCache([Slot()]), PrefixCache([Slot()])
    last = Held()
    for prompt in map(prompt_of, order):
        assert taken(bare, prompt, 0) == last.shared(prompt) <= taken(hosted, prompt, room)
        last = Held(prompt.texts, prompt.tokens)


def taken(cache: PrefixCache, prompt: Prompt, room: int) -> int:
    """Run a prompt; return the tokens that were cached."""
    slot, shared = cache.take(prompt, room)
    slot.held, slot.is_busy = Held(prompt.texts, prompt.tokens), False
    return shared
