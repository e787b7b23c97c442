"""`/v1/messages/count_tokens`, the gateway's own route, has the rights of `/v1/messages`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollama_gateway.errors import Forbidden
from ollama_gateway.simulator import Model, Simulator
from tests.support.scenario import CHAT, Scenario, open_scenario

pytestmark = pytest.mark.virtual_time

PATH = "/v1/messages/count_tokens"
BODY = {"model": "m1", "messages": [{"role": "user", "content": "x" * 36}], "system": "y" * 40}


def asked(scenario: Scenario) -> int:
    """Count the requests that backends got, except from discovery."""
    paths = (seen.path for simulator in scenario.simulators.values() for seen in simulator.seen)
    return sum(path not in {"/api/tags", "/api/ps", "/api/version"} for path in paths)


async def test_a_count_is_the_estimate(scenario: Scenario) -> None:
    """The count is a quarter of the bytes; no backend is asked and no audit record written."""
    reply = await scenario.ask(f"{PATH}?beta=true", BODY)
    seen = asked(scenario)

    assert (reply.status, reply.document) == (200, {"input_tokens": 20})
    assert reply.headers["content-type"] == "application/json"
    assert (seen, scenario.records) == (0, [])


async def test_a_count_is_the_one_that_a_stream_begins_with(scenario: Scenario) -> None:
    """The count equals the figure in Ollama's `message_start` for the same request."""
    counted = await scenario.ask(PATH, BODY)
    stream = await scenario.ask("/v1/messages", {**BODY, "max_tokens": 9, "stream": True})

    start = json.loads(stream.body.split(b"\n")[1].removeprefix(b"data: "))
    assert start["message"]["usage"]["input_tokens"] == counted.document["input_tokens"]


async def test_it_needs_no_backend_that_is_up(scenario: Scenario) -> None:
    """Tokens are counted also while all backends of the model are down."""
    for _ in range(3):
        for simulator in scenario.simulators.values():
            simulator.go_down()
        await scenario.poll()
    reply = await scenario.ask(PATH, BODY)

    assert reply.status == 200


async def test_it_needs_the_right_to_the_model() -> None:
    """An unknown model and a forbidden model get the same 403 but for the name they asked for."""
    async with open_scenario({"a": Simulator([Model("m1:latest"), Model("secret:1")])}) as scenario:
        _, narrow = scenario.store.create("narrow", ("m1", "no-such-model"))
        _, reader = scenario.store.create("reader", endpoints=frozenset({"read"}))
        refused = [
            await scenario.ask(PATH, {**BODY, "model": name}, key=narrow)
            for name in ("secret:1", "no-such-model")
        ]
        refused.append(await scenario.ask(PATH, BODY, key=reader))
        refused.append(
            await scenario.ask("/v1/messages", {**CHAT, "model": "secret:1"}, key=narrow)
        )
        stranger = await scenario.ask(PATH, BODY, key=None)

    assert {reply.status for reply in refused} == {403}
    texts = [reply.document["error"]["message"] for reply in refused]
    assert texts[0] == texts[1].replace("no-such-model", "secret:1") == texts[3]
    assert texts[2] == Forbidden.default_message
    assert (stranger.status, stranger.document["error"]["type"]) == (401, "authentication_error")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"messages": []}, "model is required"),
        ({"model": "m1"}, "messages is required"),
        ({"model": "m1", "messages": "hi"}, "messages is required"),
        (b'{"model":"m1","Model":"m2","messages":[]}', "the request body has the same key twice"),
        (b"", "missing request body"),
    ],
)
async def test_a_wrong_body_is_refused(scenario: Scenario, body: Any, message: str) -> None:
    """A wrong body gets an error in Anthropic's shape, with the request id."""
    reply = await scenario.ask(PATH, body)

    assert reply.status == 400
    assert reply.document == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": message},
        "request_id": reply.headers["x-request-id"],
    }


async def test_other_methods_are_the_routers(scenario: Scenario) -> None:
    """A wrong method gets the usual 405, and a longer path the usual 404."""
    wrong = await scenario.ask(PATH, method="GET")
    unknown = await scenario.ask(f"{PATH}/x")

    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
    assert (unknown.status, unknown.body) == (404, b"404 page not found")
    assert {reply.headers["content-type"] for reply in (wrong, unknown)} == {"text/plain"}


@pytest.mark.parametrize("name", ["a", "no-such-backend"])
async def test_naming_a_backend_needs_the_right_to(scenario: Scenario, name: str) -> None:
    """Without the right to manage, naming a backend is a 403, whether it exists or not."""
    reply = await scenario.ask(PATH, BODY, headers={"x-gateway-backend": name})
    by_path = await scenario.ask(f"/b/{name}{PATH}", BODY)

    assert [reply.status, by_path.status] == [403, 403]


async def test_a_named_backend_has_to_host_the_model() -> None:
    """A named backend must host the model, whatever others host."""
    simulators = {"a": Simulator([Model("m1:latest")]), "b": Simulator([Model("m2:latest")])}
    async with open_scenario(simulators) as scenario:
        _, key = scenario.store.create("ops", ("*",), frozenset({"inference", "manage"}))
        found = [
            (await scenario.ask(PATH, BODY, key=key, headers={"x-gateway-backend": name})).status
            for name in ("a", "b", "c")
        ]

    assert found == [200, 403, 400]
