"""What reaches a backend of what clients ask of the load of a model, over all routes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import pytest
import trio
import trio.testing

from ollama_gateway.keys.key import KeyLimits
from ollama_gateway.simulator import Model, Script, Simulator
from ollama_gateway.simulator.runners import Limits
from tests.flow.dialects import SAY_HI, SSE
from tests.flow.limited import limited
from tests.support.scenario import Reply, Scenario, open_scenario

Clock = trio.testing.MockClock
LONGEST: Final = 32_768
NATIVE: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("/api/chat", {"model": "m1", "messages": SAY_HI}),
    ("/api/generate", {"model": "m1", "prompt": "hi"}),
    ("/api/embed", {"model": "m1", "input": "hi"}),
    ("/api/embeddings", {"model": "m1:latest", "prompt": "hi"}),
)
V1: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    *((speech.path, speech.body) for speech in SSE),
    ("/v1/embeddings", {"model": "m1", "input": "hi"}),
)
OPEN: Final = {
    "GATEWAY_MODELS_DEFAULTS_NUM_CTX": "client",
    "GATEWAY_MODELS_DEFAULTS_LOAD_OPTIONS": "client",
    "GATEWAY_MODELS_DEFAULTS_KEEP_ALIVE": "client",
}
HOSTILE: Final[dict[str, Any]] = {
    "keep_alive": -1,
    "shift": False,
    "options": {
        "num_ctx": 10**9,
        "temperature": 0.5,
        "num_gpu": 0,
        "main_gpu": 1,
        "use_mmap": False,
        "num_thread": 4096,
        "num_batch": 1,
        "draft_num_predict": 9,
    },
}


def machine() -> Simulator:
    """Return a machine that can do everything and has nothing loaded."""
    model = Model("m1", capabilities=("completion", "embedding"), context_length=LONGEST)
    return Simulator([model])


async def ask(
    scenario: Scenario, path: str, body: Mapping[str, Any], *, may_manage: bool = False
) -> tuple[Reply, dict[str, Any]]:
    """Send a request; return its answer, and the body that reached the backend."""
    key = scenario.manager() if may_manage else ""
    reply = await scenario.ask(path, body, key=key)
    seen = [one for one in scenario.simulators["a"].seen if one.path == path]
    return reply, json.loads(seen[-1].body)


def asked(sent: dict[str, Any]) -> dict[str, Any]:
    """Return the members of a body about the load that are not null."""
    named = {name: sent.get(name) for name in ("options", "keep_alive", "shift")}
    return {name: value for name, value in named.items() if value is not None}


@pytest.mark.parametrize(("path", "body"), NATIVE)
async def test_a_key_without_manage_changes_nothing_for_others(
    autojump_clock: Clock, path: str, body: dict[str, Any]
) -> None:
    """On Ollama's own routes it gets the context that there is, for an hour, and no more."""
    async with open_scenario({"a": machine()}) as scenario:
        reply, sent = await ask(scenario, path, {**body, **HOSTILE})

    bounded = {"temperature": 0.5, "num_ctx": LONGEST}
    assert reply.status == 200
    assert asked(sent) == {"options": bounded, "keep_alive": "3600s"}
    [record] = scenario.records
    names = reply.headers["x-gateway-changed"].split(", ")
    assert set(names) == {"keep_alive", "shift", *HOSTILE["options"]} - {"temperature"}
    assert record.changed == ",".join(names)


@pytest.mark.parametrize(("path", "body"), V1)
async def test_on_v1_only_what_ollama_may_read_one_day_is_taken_out(
    autojump_clock: Clock, path: str, body: dict[str, Any]
) -> None:
    """Its context and its stay are left alone, since Ollama reads neither there."""
    async with open_scenario({"a": machine()}) as scenario:
        reply, sent = await ask(scenario, path, {**body, **HOSTILE})

    assert reply.status == 200
    assert sent["keep_alive"] == -1
    assert {name for name in sent["options"] if name != "num_predict"} == {
        "num_ctx",
        "temperature",
    }


@pytest.mark.parametrize(("path", "body"), NATIVE + V1)
async def test_ordinary_requests_pass_unchanged(
    autojump_clock: Clock, path: str, body: dict[str, Any]
) -> None:
    """A request that names nothing reaches a cold machine byte by byte, and no header says else."""
    async with open_scenario({"a": machine()}) as scenario:
        reply = await scenario.ask(path, body)
        seen = [one for one in scenario.simulators["a"].seen if one.path == path]

    assert (reply.status, json.loads(seen[-1].body)) == (200, body)
    assert "x-gateway-changed" not in reply.headers
    assert scenario.records[0].changed is None


@pytest.mark.parametrize(("path", "body"), NATIVE)
@pytest.mark.parametrize("may_manage", [False, True], ids=["any key, opened", "manage"])
async def test_each_default_can_be_opened(
    autojump_clock: Clock, path: str, body: dict[str, Any], *, may_manage: bool
) -> None:
    """With open defaults, or the right to manage, the client's words reach Ollama."""
    settings = {} if may_manage else OPEN
    async with open_scenario({"a": machine()}, settings=settings) as scenario:
        reply, sent = await ask(scenario, path, {**body, **HOSTILE}, may_manage=may_manage)

    assert (reply.status, asked(sent)) == (200, HOSTILE)
    assert "x-gateway-changed" not in reply.headers


@pytest.mark.parametrize(("path", "body"), NATIVE)
async def test_what_fits_into_the_loaded_context_gets_it(
    autojump_clock: Clock, path: str, body: dict[str, Any]
) -> None:
    """Whatever context clients name, a model that is loaded with enough is not loaded again."""
    async with open_scenario({"a": machine()}) as scenario:
        contexts = []
        for context in (16_384, 4096, None, 16_384, 1, 20_000, 16_384, None):
            options = {} if context is None else {"options": {"num_ctx": context}}
            _, sent = await ask(scenario, path, {**body, **options})
            contexts.append(sent["options"]["num_ctx"])
            await scenario.poll()
        loads = scenario.simulators["a"].figures.loads

    assert contexts == [16_384] * 5 + [20_000] * 3
    assert loads == 2


async def test_a_request_without_a_context_stays_so_if_it_may_not_fit(
    autojump_clock: Clock,
) -> None:
    """A long prompt gets the server's own context; a picture counts as one, not by its bytes."""
    async with open_scenario({"a": machine()}) as scenario:
        await ask(scenario, "/api/generate", {"model": "m1", "options": {"num_ctx": 4096}})
        await scenario.poll()
        body = {"model": "m1", "prompt": "what?", "images": ["aGk=" * 20_000]}
        _, picture = await ask(scenario, "/api/generate", body)
        _, long = await ask(scenario, "/api/generate", {"model": "m1", "prompt": "word " * 4000})

    assert "options" not in long
    assert picture["options"] == {"num_ctx": 4096}


async def test_a_context_that_is_being_loaded_counts(autojump_clock: Clock) -> None:
    """Requests that arrive during a load get its context, so the model is loaded once."""
    model = Model("m1", context_length=LONGEST, load_time=30)
    async with open_scenario({"a": Simulator([model])}) as scenario:
        async with trio.open_nursery() as nursery:
            for context in (16_384, 4096, 8192):
                body = {"model": "m1", "prompt": "hi", "options": {"num_ctx": context}}
                nursery.start_soon(scenario.ask, "/api/generate", body)
                await trio.sleep(12)
                await scenario.poll()
        sent = [json.loads(s.body) for s in scenario.simulators["a"].seen if s.method == "POST"]
        loads = scenario.simulators["a"].figures.loads

    assert [body["options"]["num_ctx"] for body in sent] == [16_384] * 3
    assert loads == 1


async def test_a_load_counts_before_the_next_poll(autojump_clock: Clock) -> None:
    """A context that has just grown is not made smaller by the next request."""
    async with open_scenario({"a": machine()}) as scenario:
        await ask(scenario, "/api/generate", {"model": "m1", "options": {"num_ctx": 8192}})
        await scenario.poll()
        contexts = []
        for context in (16_384, 4096, 10**9, 4096):
            body = {"model": "m1", "prompt": "hi", "options": {"num_ctx": context}}
            _, sent = await ask(scenario, "/api/generate", body)
            contexts.append(sent["options"]["num_ctx"])

        assert contexts == [16_384, 16_384, LONGEST, LONGEST]
        assert scenario.simulators["a"].figures.loads == 3


@pytest.mark.parametrize("default", [4096, 16_384])
async def test_a_native_request_gets_the_context_that_v1_has_loaded(
    autojump_clock: Clock, default: int
) -> None:
    """After an answer on `/v1` the machine is asked at once what it has loaded now."""
    simulator = Simulator([Model("m1", context_length=LONGEST)], limits=Limits(context=default))
    body = {"model": "m1", "prompt": "hi", "options": {"num_ctx": 8192}}
    async with (
        open_scenario({"a": simulator}) as scenario,
        trio.open_nursery() as nursery,
    ):
        (backend,) = scenario.gateway.backends.all
        nursery.start_soon(scenario.gateway.parts.discovery.watch_running, backend)
        sent = []
        for _ in range(3):
            sent.append((await ask(scenario, "/api/generate", body))[1]["options"]["num_ctx"])
            await trio.sleep(5)
            await scenario.ask(V1[0][0], V1[0][1])
            await trio.sleep(5)
        nursery.cancel_scope.cancel()

    assert sent == [8192, *[max(default, 8192)] * 2]
    assert simulator.figures.loads == (2 if default > 8192 else 6)


async def test_every_attempt_gets_the_context_of_its_own_machine(autojump_clock: Clock) -> None:
    """The one that fails over is sent again with the context that the other machine has loaded."""
    async with open_scenario({"a": machine(), "b": machine()}) as scenario:
        key = scenario.manager()
        for name, context in (("a", 16_384), ("b", 8192)):
            load = {"model": "m1", "options": {"num_ctx": context}}
            headers = {"x-gateway-backend": name}
            await scenario.ask("/api/generate", load, key=key, headers=headers)
        await scenario.poll()
        scenario.simulators["a"].script(Script(status=500))
        body = {"model": "m1", "prompt": "hi", "options": {"num_ctx": 4096}}
        reply = await scenario.ask("/api/generate", body)
        sent = [json.loads(one.seen[-1].body) for one in scenario.simulators.values()]

    assert reply.headers["x-gateway-backend"] == "b"
    assert [body["options"]["num_ctx"] for body in sent] == [16_384, 8192]


@pytest.mark.parametrize("options", [[], "x", {"num_ctx": "8192"}, {"num_ctx": True}])
async def test_options_that_ollama_refuses_get_its_own_error(
    autojump_clock: Clock, options: object
) -> None:
    """The client reads Ollama's words about its mistake."""
    async with open_scenario({"a": machine()}) as scenario:
        reply, sent = await ask(
            scenario, "/api/generate", {"model": "m1", "prompt": "hi", "options": options}
        )

    assert reply.status in {400, 500}
    assert "option" in reply.document["error"]
    assert sent["options"] == options


async def test_a_bounded_answer_and_a_context_share_the_options(autojump_clock: Clock) -> None:
    """The bound that a budget sets and the loaded context are written into one object."""
    async with limited(KeyLimits(tokens_per_day=100_000), {"a": machine()}) as key:
        load = {"model": "m1", "options": {"num_ctx": 8192}}
        await key.ask("/api/generate", load)
        await key.scenario.poll()
        await key.ask("/api/generate", {"model": "m1", "prompt": "hi"})
        sent = json.loads(key.seen().body)

    assert sent["options"].keys() == {"num_ctx", "num_predict"}
    assert sent["options"]["num_ctx"] == 8192


async def test_a_large_body_is_changed_in_place(autojump_clock: Clock) -> None:
    """A body too large to be read in one go is bounded like any other."""
    words = [{"role": "user", "content": "word " * 1000} for _ in range(80)]
    async with open_scenario({"a": machine()}) as scenario:
        body = {"model": "m1", "messages": words, **HOSTILE}
        reply, sent = await ask(scenario, "/api/chat", body)

    assert (reply.status, sent["messages"]) == (200, words)
    assert sent["options"] == {"temperature": 0.5, "num_ctx": LONGEST}
    assert (sent["keep_alive"], sent["shift"]) == ("3600s", None)
