"""The work done: tokens of prompts and answers, even if no client waited for them."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import anyio
import pytest
import trio.testing

from ollama_gateway.simulator import Figures, Model, Script, Simulator, memory_server
from ollama_gateway.simulator.figures import PATH
from tests.simulator.client import ask, request
from tests.simulator.test_command import running

Clock = trio.testing.MockClock
CHAT = {"model": "m1", "messages": [{"role": "user", "content": "hi"}]}
EMBED = {"model": "m1", "input": ["12345", "1"]}
SLOW = Model("m1", ("a", "b", "c"), first_token=1, between_tokens=1)


async def served(script: Script, path: str = "/api/chat", body: object = CHAT) -> Figures:
    """Send one request with that script, and return the figures."""
    simulator = Simulator([Model("m1")])
    simulator.script(script)
    async with memory_server(simulator) as connect:
        await ask(await connect(), "POST", path, body)
    return simulator.figures


@pytest.mark.parametrize(
    ("script", "tokens"),
    [
        (Script(), (11, 2)),
        (Script(cut_after=1), (11, 1)),
        (Script(error_after=1), (11, 1)),
        (Script(error_after=0), (11, 0)),
        (Script(no_done=True), (11, 2)),
        (Script(status=503), (0, 0)),
        (Script(cut_after=0), (0, 0)),
    ],
)
async def test_what_was_begun_is_served(script: Script, tokens: tuple[int, int]) -> None:
    """The prompt counts when the model begins, each token when it is generated."""
    assert await served(script) == Figures(0, 1, 1, *tokens)


@pytest.mark.parametrize(
    ("path", "body", "tokens"),
    [
        ("/api/chat", CHAT | {"stream": False}, (11, 2)),
        ("/api/generate", {"model": "m1", "prompt": "hi"}, (11, 2)),
        ("/v1/chat/completions", CHAT, (11, 2)),
        ("/v1/completions", {"model": "m1", "prompt": "hi", "stream": True}, (11, 2)),
        ("/v1/responses", {"model": "m1", "input": "hi", "stream": True}, (11, 2)),
        ("/v1/messages", CHAT | {"max_tokens": 9}, (11, 2)),
        ("/api/embed", EMBED, (3, 0)),
        ("/v1/embeddings", EMBED, (3, 0)),
        ("/api/embeddings", {"model": "m1", "prompt": "12345"}, (2, 0)),
        ("/api/chat", {"model": "m1"}, (0, 0)),
        ("/api/embed", {"model": "m1"}, (0, 0)),
        ("/api/chat", CHAT | {"model": "nope"}, (0, 0)),
    ],
)
async def test_every_route_serves_into_the_figures(
    path: str, body: object, tokens: tuple[int, int]
) -> None:
    """Streams, single answers and embeddings count; a load and a refusal are requests only."""
    assert await served(Script(), path, body) == Figures(0, 1, 1, *tokens)


async def test_an_answer_counts_as_far_as_it_came(autojump_clock: Clock) -> None:
    """The figures grow with each token, and keep those of a client that left."""
    simulator = Simulator([SLOW])
    async with memory_server(simulator) as connect:
        stream = await connect()
        await ask(stream, "GET", "/api/tags")
        await stream.send(request("POST", "/api/chat", CHAT | {"stream": False}))
        await anyio.sleep(0.5)
        begun = simulator.figures
        await anyio.sleep(2)
        await stream.aclose()
        await anyio.sleep(9)

    assert begun == Figures(1, 1, 1, 11, 0)
    assert simulator.figures == Figures(0, 1, 1, 11, 2)


async def test_the_figures_have_a_route_where_they_are_shown(autojump_clock: Clock) -> None:
    """The route reports a request in progress and does not count itself; it allows only GET."""
    simulator = Simulator([SLOW], shows_figures=True)
    async with memory_server(simulator) as connect:
        await (await connect()).send(request("POST", "/api/chat", CHAT))
        await anyio.sleep(1.5)
        stream = await connect()
        shown = await ask(stream, "GET", PATH)
        posted = await ask(stream, "POST", PATH)

    assert shown.document == {
        "in_flight": 1,
        "most_in_flight": 1,
        "requests": 1,
        "prompt_tokens": 11,
        "completion_tokens": 1,
        "cached_tokens": 0,
    }
    assert posted.status == 404


async def test_a_real_ollama_has_no_such_route() -> None:
    """Without the flag the path is unknown, as on a real Ollama."""
    async with memory_server(Simulator([Model("m1")])) as connect:
        answer = await ask(await connect(), "GET", PATH)

    assert (answer.status, answer.body) == (404, b"404 page not found")


def post(address: str, body: object) -> Any:
    """Ask a process for a whole chat."""
    data = json.dumps(body).encode()
    with urllib.request.urlopen(f"{address}/api/chat", data) as response:  # noqa: S310 - http
        return json.load(response)


def test_a_process_shows_its_figures() -> None:
    """`--figures` opens the route; `--hidden-prompt` and `--tokens` appear in its figures."""
    options = ("--figures", "--hidden-prompt", "500", "--tokens", "7", "--token-delay", "0s")
    with running("--model", "m1", *options) as (_, address):
        said = post(address, CHAT | {"stream": False})
        post(address, CHAT | {"stream": False, "options": {"num_predict": 3}})
        with urllib.request.urlopen(address + PATH) as response:  # noqa: S310 - http
            figures = json.load(response)

    assert (said["prompt_eval_count"], said["eval_count"]) == (511, 7)
    assert figures == {
        "in_flight": 0,
        "most_in_flight": 1,
        "requests": 2,
        "prompt_tokens": 1022,
        "completion_tokens": 10,
        "cached_tokens": 0,
    }
