"""A good chunk has the shape of its dialect and is of the kind that was asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio.testing

from ollama_gateway.simulator import Model, Script
from tests.flow.dialects import MESSAGES, RESPONSES
from tests.support.scenario import CHAT, open_scenario

Clock = trio.testing.MockClock
MODELS = (Model("m1:latest", capabilities=("completion", "embedding")),)
SAY = CHAT["messages"]
EMBED = {"model": "m1", "input": ["x"]}
PROMPT = {"model": "m1", "prompt": "x"}
WHOLE: list[tuple[str, dict[str, Any]]] = [
    ("/api/chat", {**CHAT, "stream": False}),
    ("/api/generate", {**PROMPT, "stream": False}),
    ("/api/embed", EMBED),
    ("/api/embeddings", PROMPT),
    ("/v1/chat/completions", CHAT),
    ("/v1/completions", PROMPT),
    ("/v1/embeddings", EMBED),
    ("/v1/responses", {**RESPONSES.body, "stream": False}),
    ("/v1/messages", {**MESSAGES.body, "stream": False}),
]
STREAMS: list[tuple[str, dict[str, Any]]] = [
    (path, {**body, "stream": True}) for path, body in WHOLE if "embed" not in path
]
NO_ANSWERS = [
    {},
    {"html-message": "Network connection lost."},
    {"status": "ok", "message": "it works"},
    {"message": "it works", "response": 5, "embeddings": None, "embedding": "x", "output": {}},
    {"choices": None, "data": {}, "content": "it works", "stop_reason": None, "done": "true"},
]


def answering(document: object, kind: str = "application/json", *, line: bool = False) -> Script:
    """Make a backend answer 200 with this document."""
    body = json.dumps(document).encode() + b"\n" * line
    if kind == "text/event-stream":
        body = b"data: " + body + b"\n\n"
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return Script(raw=head.encode() + body)


@pytest.mark.parametrize("document", NO_ANSWERS, ids=json.dumps)
@pytest.mark.parametrize(("path", "body"), [*WHOLE, *STREAMS])
async def test_a_document_that_is_no_answer_is_a_failed_attempt(
    autojump_clock: Clock, path: str, body: dict[str, Any], document: object
) -> None:
    """A JSON object that is no answer, such as a proxy's, moves the request to the next backend."""
    async with open_scenario(models=MODELS) as scenario:
        scenario.simulators["a"].script(answering(document))
        reply = await scenario.ask(path, body)

    assert (reply.status, reply.headers["x-gateway-backend"]) == (200, "b")
    [record] = scenario.records
    assert [attempt.reason for attempt in record.attempts] == ["garbled_answer", None]


@pytest.mark.parametrize("document", NO_ANSWERS, ids=json.dumps)
@pytest.mark.parametrize(("path", "body"), STREAMS)
async def test_a_first_frame_that_is_no_answer_is_a_failed_attempt(
    autojump_clock: Clock, path: str, body: dict[str, Any], document: object
) -> None:
    """So does a stream whose first frame is no answer."""
    is_native = path.startswith("/api/")
    kind = "application/x-ndjson" if is_native else "text/event-stream"
    async with open_scenario(models=MODELS) as scenario:
        scenario.simulators["a"].script(answering(document, kind, line=is_native))
        reply = await scenario.ask(path, body)

    assert (reply.status, reply.headers["x-gateway-backend"]) == (200, "b")
    assert scenario.records[0].attempts[0].reason == "garbled_answer"


@pytest.mark.parametrize(
    ("path", "body", "document", "kind"),
    [
        ("/api/chat", CHAT, {"message": {"content": "hi"}, "done": True}, "application/json"),
        ("/v1/chat/completions", {**CHAT, "stream": True}, {"choices": [{}]}, "application/json"),
        (
            "/api/chat",
            {**CHAT, "stream": False},
            {"message": {"content": "hi"}, "done": True},
            "application/x-ndjson",
        ),
        ("/v1/chat/completions", CHAT, {"choices": [{}]}, "text/event-stream"),
    ],
)
async def test_a_stream_is_answered_by_a_stream(
    autojump_clock: Clock, path: str, body: dict[str, Any], document: object, kind: str
) -> None:
    """An answer of the other kind, streamed or whole, moves the request to the next backend."""
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(answering(document, kind, line=True))
        reply = await scenario.ask(path, body)

    assert reply.headers["x-gateway-backend"] == "b"


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
async def test_a_model_is_loaded_by_a_stream_that_is_answered_whole(
    autojump_clock: Clock, path: str
) -> None:
    """Ollama's whole answer to a request that only loads a model is good."""
    async with open_scenario() as scenario:
        reply = await scenario.ask(path, {"model": "m1"})

    assert reply.headers["x-gateway-backend"] == "a"
    assert reply.document["done_reason"] == "load"
