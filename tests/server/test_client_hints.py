"""Answers that make clients do the right thing: give up, or name the missing model."""

from __future__ import annotations

import pytest

from ollama_gateway.keys.key import KeyLimits
from ollama_gateway.simulator import Model, Script, Simulator
from tests.support.scenario import CHAT, Scenario, open_scenario

pytestmark = pytest.mark.virtual_time

PATHS = ["/api/chat", "/v1/chat/completions", "/v1/responses", "/v1/messages"]
BODY = {**CHAT, "input": "hi", "max_tokens": 5}


@pytest.mark.parametrize("path", PATHS)
async def test_a_long_wait_is_no_wait(scenario: Scenario, path: str) -> None:
    """A 429 of more than two minutes makes SDKs raise at once; else they sleep for hours."""
    limits = KeyLimits(tokens_per_day=10)
    _, key = scenario.store.create("spent", limits=limits)
    reply = await scenario.ask(path, BODY, key=key)

    assert reply.status == 429
    assert int(reply.headers["retry-after"]) > 120 or path == "/api/chat"
    if int(reply.headers["retry-after"]) > 120:
        assert reply.headers["x-should-retry"] == "false"
    if path in {"/v1/chat/completions", "/v1/responses"}:
        error = reply.document["error"]
        assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")


@pytest.mark.parametrize(("seconds", "is_final"), [(3600, True), (121, True), (120, False)])
@pytest.mark.parametrize("path", PATHS)
async def test_a_long_wait_for_a_backend_is_no_wait_either(
    path: str,
    seconds: int,
    is_final: bool,  # noqa: FBT001
) -> None:
    """A backend's own 429, such as a cloud model's, ends as one of the gateway's does."""
    head = f"HTTP/1.1 429 Too Many Requests\r\nretry-after: {seconds}\r\n"
    full = Script(raw=f'{head}content-length: 13\r\n\r\n{{"error":"x"}}'.encode())
    async with open_scenario({"a": Simulator([Model("m1:latest")])}) as scenario:
        scenario.simulators["a"].script(full, times=None)
        reply = await scenario.ask(path, BODY)

    assert (reply.status, reply.headers["retry-after"]) == (429, str(seconds))
    assert reply.headers.get("x-should-retry") == ("false" if is_final else None)
    if path in {"/v1/chat/completions", "/v1/responses"}:
        assert (reply.document["error"]["code"] == "insufficient_quota") is is_final


async def test_a_short_wait_is_one(scenario: Scenario) -> None:
    """A 429 of a rate leaves the retry to the client."""
    _, key = scenario.store.create("quick", limits=KeyLimits(requests_per_minute=1))
    await scenario.ask(key=key)
    reply = await scenario.ask("/v1/chat/completions", BODY, key=key)

    assert (reply.status, reply.document["error"]["code"]) == (429, None)
    assert "x-should-retry" not in reply.headers


@pytest.mark.parametrize("path", PATHS)
async def test_refusals_are_not_to_be_repeated(scenario: Scenario, path: str) -> None:
    """A 401 and a 403 stop clients that would repeat the request, such as Claude Code."""
    replies = [
        await scenario.ask(path, BODY, key=None),
        await scenario.ask(path, BODY, key="wrong"),
        await scenario.ask(path, {**BODY, "model": "nobody-has-this"}),
    ]

    assert [reply.status for reply in replies] == [401, 401, 403]
    assert {reply.headers["x-should-retry"] for reply in replies} == {"false"}


async def test_a_missing_key_is_told_how_to_send_one(scenario: Scenario) -> None:
    """A missing key gets instructions; every wrong key gets one text."""
    missing = await scenario.ask(key=None)
    wrong = [await scenario.ask(key=key) for key in ("x", "ogw_aaaaaaaa_" + "b" * 49)]

    assert "Authorization: Bearer" in missing.document["error"]
    assert {reply.body for reply in wrong} == {b'{"error":"invalid API key"}'}


@pytest.mark.parametrize(
    ("agent", "status"), [("ollama/0.33.0 (amd64 linux)", 403), ("ollama-python/0.6", 401)]
)
async def test_ollamas_own_client_reads_a_403(scenario: Scenario, agent: str, status: int) -> None:
    """Ollama's client replaces the text of a 401 by one about ollama.com, so it gets a 403."""
    replies = [
        await scenario.ask(key=key, headers={"user-agent": agent}) for key in (None, "wrong")
    ]

    assert [reply.status for reply in replies] == [status, status]
    assert replies[0].body != replies[1].body


@pytest.mark.parametrize("asked", ["nobody-has-this", "SECRET:1", "x" * 300, "other/m1:q4"])
@pytest.mark.parametrize("path", PATHS)
async def test_a_model_that_is_not_there_is_named(path: str, asked: str) -> None:
    """A 403 names the model as the client wrote it, with the code that Codex reads."""
    async with open_scenario({"a": Simulator([Model("m1:latest"), Model("secret:1")])}) as scenario:
        _, key = scenario.store.create("narrow", ("m1", "x*", "nobody*"))
        reply = await scenario.ask(path, {**BODY, "model": asked}, key=key)

    if len(asked) > 200:
        assert reply.status == 400
        return
    assert reply.status == 403
    error = reply.document["error"]
    message = error if isinstance(error, str) else error["message"]
    assert message == f"model {asked} is not available to this key"
    if path in {"/v1/chat/completions", "/v1/responses"}:
        assert error["code"] == "model_not_found"
    assert scenario.records[0].model is not None


async def test_anthropics_clients_find_the_request_by_its_name(scenario: Scenario) -> None:
    """Anthropic's clients show the `request-id` of an error."""
    messages = await scenario.ask("/v1/messages", BODY)
    chat = await scenario.ask()

    assert messages.headers["request-id"] == messages.headers["x-request-id"]
    assert "request-id" not in chat.headers


@pytest.mark.parametrize("path", PATHS)
async def test_streams_are_not_to_be_buffered(scenario: Scenario, path: str) -> None:
    """A stream asks proxies not to buffer it; a whole answer does not."""
    stream = await scenario.ask(path, {**BODY, "stream": True})
    whole = await scenario.ask(path, {**BODY, "stream": False})

    assert stream.headers["x-accel-buffering"] == "no"
    assert "x-accel-buffering" not in whole.headers
