"""Every dialect through the gateway: served unchanged, metered, and cut so that clients notice."""

from __future__ import annotations

import json

import pytest
import trio.testing

from ollama_gateway.simulator import Model, Script, Simulator
from ollama_gateway.wire.dialects import Dialect
from ollama_gateway.wire.dialects.anthropic import AnthropicDialect
from ollama_gateway.wire.dialects.openai import OpenAIDialect
from ollama_gateway.wire.dialects.responses import ResponsesDialect
from tests.flow.dialects import CHAT, COMPLETION, MESSAGES, RESPONSES, SSE, Speech, events
from tests.support.scenario import Scenario, open_scenario

Clock = trio.testing.MockClock
DIALECTS: dict[str, Dialect] = {
    "/v1/responses": ResponsesDialect(),
    "/v1/messages": AnthropicDialect(),
}
HEADERS = {"anthropic-version": "2023-06-01", "anthropic-beta": "a,b", "x-api-key": "secret"}


def metered(scenario: Scenario) -> tuple[int | None, int | None, str | None]:
    """Return the token fields of the only record."""
    (record,) = scenario.records
    return record.prompt_tokens, record.completion_tokens, record.tokens_source


@pytest.mark.parametrize("speech", SSE, ids=lambda speech: speech.path)
async def test_a_stream_is_served_and_metered(autojump_clock: Clock, speech: Speech) -> None:
    """It has its text, its dialect's own end, and the backend's counts in its record."""
    async with open_scenario() as scenario:
        reply = await scenario.ask(speech.path, {**speech.body, "stream": True})

    assert (reply.status, reply.is_complete) == (200, True)
    assert reply.headers["content-type"] == "text/event-stream"
    assert speech.text(reply) == "Hello"
    assert reply.body.endswith(speech.end)
    assert scenario.records[0].outcome == "completed"
    assert metered(scenario) == (11, 2, "reported")


@pytest.mark.parametrize("speech", SSE, ids=lambda speech: speech.path)
async def test_a_whole_answer_is_served_and_metered(autojump_clock: Clock, speech: Speech) -> None:
    """A whole answer is the backend's own, with its usage at the top."""
    async with open_scenario() as scenario:
        reply = await scenario.ask(speech.path, speech.body)

    assert speech.whole(reply.document) == "Hello"
    assert metered(scenario) == (11, 2, "reported")


@pytest.mark.parametrize("speech", [RESPONSES, MESSAGES], ids=lambda speech: speech.path)
async def test_bytes_pass_unchanged(autojump_clock: Clock, speech: Speech) -> None:
    """The backend gets the client's bytes, and the client gets all of the backend's."""
    body = json.dumps({**speech.body, "stream": True}, indent=1).encode()
    async with open_scenario() as scenario:
        await scenario.ask(speech.path, body, headers=HEADERS)
        seen = scenario.simulators["a"].seen[-1]

    assert seen.body == body
    sent = {name.lower(): value for name, value in seen.headers}
    assert sent[b"anthropic-version"] == b"2023-06-01"
    assert sent[b"anthropic-beta"] == b"a,b"
    assert b"x-api-key" not in sent


@pytest.mark.parametrize("speech", [CHAT, COMPLETION], ids=lambda speech: speech.path)
async def test_who_did_not_ask_sees_no_usage(autojump_clock: Clock, speech: Speech) -> None:
    """Its stream has no extra chunk and no extra key from the gateway's own request for usage."""
    async with open_scenario() as scenario:
        asked = json.dumps({**speech.body, "stream": True, "stream_options": None}).encode()
        reply = await scenario.ask(speech.path, asked)
        seen = scenario.simulators["a"].seen[-1]

    assert json.loads(seen.body)["stream_options"] == {"include_usage": True}
    assert b"usage" not in reply.body
    assert all(event["choices"] for event in events(reply))
    assert scenario.records[0].bytes_out == len(reply.body)


@pytest.mark.parametrize("speech", [CHAT, COMPLETION], ids=lambda speech: speech.path)
async def test_who_asked_sees_usage(autojump_clock: Clock, speech: Speech) -> None:
    """A client that asked for usage gets everything as the backend wrote it."""
    body = {**speech.body, "stream": True, "stream_options": {"include_usage": True}}
    async with open_scenario() as scenario:
        reply = await scenario.ask(speech.path, body)
        seen = scenario.simulators["a"].seen[-1]

    assert json.loads(seen.body) == body
    *_, last = events(reply)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 13
    assert metered(scenario) == (11, 2, "reported")


async def test_zeros_in_each_chunk_are_no_report(autojump_clock: Clock) -> None:
    """A completion that is cut has no report, although each chunk holds a usage object."""
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(Script(cut_after=1))
        reply = await scenario.ask(COMPLETION.path, {**COMPLETION.body, "stream": True})

    assert not reply.is_complete
    assert metered(scenario) == (None, 1, "counted")


async def test_the_estimate_of_message_start_is_not_believed(autojump_clock: Clock) -> None:
    """A stream that is cut before its real counts arrive has no reported usage."""
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(Script(cut_after=3))
        await scenario.ask(MESSAGES.path, {**MESSAGES.body, "stream": True})

    assert metered(scenario) == (None, 3, "counted")


@pytest.mark.parametrize(
    "script",
    [Script(cut_after=3), Script(error_after=1, error="boom"), Script(no_done=True)],
    ids=["cut", "failed", "no end"],
)
@pytest.mark.parametrize("speech", SSE, ids=lambda speech: speech.path)
async def test_a_cut_stream_ends_in_an_error(
    autojump_clock: Clock, speech: Speech, script: Script
) -> None:
    """If the backend falls silent, the last event is an error in the dialect."""
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(script)
        reply = await scenario.ask(speech.path, {**speech.body, "stream": True})

    assert reply.is_complete is (speech is RESPONSES)  # where `response.failed` is an end
    last = reply.body.split(b"\n\n")[-2] + b"\n\n"
    assert DIALECTS.get(speech.path, OpenAIDialect()).read_frame(last).error
    assert scenario.records[0].outcome == "upstream_failed"
    if speech is MESSAGES:
        assert scenario.records[0].request_id.encode() in last


async def test_a_failed_search_is_charged(autojump_clock: Clock) -> None:
    """`response.failed` ends a stream and still holds Ollama's usage."""
    failed = (
        b'event: response.created\ndata: {"type":"response.created"}\n\n'
        b'event: response.failed\ndata: {"response":{"error":{"message":"boom"},"usage":'
        b'{"input_tokens":30,"output_tokens":4}},"type":"response.failed"}\n\n'
    )
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    async with open_scenario({"a": Simulator([Model("m1:latest")])}) as scenario:
        scenario.simulators["a"].script(Script(raw=head + failed))
        reply = await scenario.ask(RESPONSES.path, {**RESPONSES.body, "stream": True})

    assert b'"message":"boom"' in reply.body
    assert (reply.body.count(b"event: response.failed"), reply.is_complete) == (1, True)
    assert (scenario.records[0].outcome, *metered(scenario)) == (
        "upstream_failed",
        30,
        4,
        "reported",
    )


async def test_old_embeddings_are_counted(autojump_clock: Clock) -> None:
    """`/api/embeddings` reports no usage; a quarter of its bytes is recorded as counted."""
    async with open_scenario() as scenario:
        reply = await scenario.ask("/api/embeddings", {"model": "m1", "prompt": "x" * 40})

    assert reply.status == 200
    assert metered(scenario) == (10, 0, "counted")


@pytest.mark.parametrize("speech", SSE, ids=lambda speech: speech.path)
async def test_errors_and_failover_are_those_of_the_rest(
    autojump_clock: Clock, speech: Speech
) -> None:
    """A first failure goes unnoticed, and a model without a backend is the dialect's 403."""
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(Script(status=500, error="boom"))
        reply = await scenario.ask(speech.path, {**speech.body, "stream": True})
        unknown = await scenario.ask(speech.path, {**speech.body, "model": "nobody-has-this"})
        wrong = await scenario.ask(speech.path, method="GET")

    assert speech.text(reply) == "Hello"
    assert scenario.records[0].backend == "b"
    assert unknown.status == 403
    assert unknown.document["error"]["message"].startswith("model nobody-has-this is not")
    assert (wrong.status, wrong.body) == (405, b"405 method not allowed")
    assert wrong.headers["content-type"] == "text/plain"
