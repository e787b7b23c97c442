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


SIMILAR: list[tuple[str, list[dict[str, Any]]]] = [
    ("/api/chat", [{"message": {"text": "bad gateway"}}, {"message": {}, "done": "true"}]),
    ("/api/generate", [{"response": "bad gateway"}, {"response": "", "done": None}]),
    ("/api/embed", [{"embeddings": []}, {"embeddings": [[]]}, {"embeddings": [["x"]]}]),
    ("/api/embeddings", [{"embedding": []}, {"embedding": ["x"]}, {"embedding": [None]}]),
    ("/v1/chat/completions", [{"choices": []}, {"choices": ["x"]}, {"choices": [[]]}]),
    ("/v1/completions", [{"choices": []}, {"choices": [5]}]),
    ("/v1/embeddings", [{"data": []}, {"data": ["x"]}, {"data": None}]),
    ("/v1/responses", [{"output": []}, {"output": ["x"]}, {"output": "x"}]),
    ("/v1/messages", [{"content": []}, {"type": "text", "content": []}, {"type": "message"}]),
]
NO_OBJECTS = [b"[]", b'"ok"', b"", b"<html>"]
LONG = "x" * 20_000


def answering(document: object, kind: str = "application/json", *, line: bool = False) -> Script:
    """Make a backend answer 200 with this document."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    body += b"\n" * line
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


@pytest.mark.parametrize(
    ("path", "document"), [(path, document) for path, several in SIMILAR for document in several]
)
async def test_a_document_that_resembles_an_answer_is_a_failed_attempt(
    autojump_clock: Clock, path: str, document: dict[str, Any]
) -> None:
    """A member of the right name and kind is no answer without what Ollama always has in it."""
    async with open_scenario(models=MODELS) as scenario:
        scenario.simulators["a"].script(answering({"error": None, **document}))
        reply = await scenario.ask(path, dict(WHOLE)[path])

    assert (reply.status, reply.headers["x-gateway-backend"]) == (200, "b")


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("/api/generate", {"response": LONG}),
        ("/api/embed", {"embeddings": [], "x": LONG}),
        ("/v1/chat/completions", {"choices": [], "x": LONG}),
        ("/v1/messages", {"content": [{"text": LONG}]}),
    ],
)
async def test_a_long_document_is_judged_alike(
    autojump_clock: Clock, path: str, document: dict[str, Any]
) -> None:
    """So is a document that is too long to be parsed at once."""
    async with open_scenario(models=MODELS) as scenario:
        scenario.simulators["a"].script(answering(document))
        reply = await scenario.ask(path, dict(WHOLE)[path])

    assert (reply.status, reply.headers["x-gateway-backend"]) == (200, "b")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/embed", {"model": "m1", "input": []}),
        ("/api/embed", {"model": "m1"}),
        ("/api/embeddings", {"model": "m1", "prompt": ""}),
    ],
)
async def test_where_nothing_is_to_be_embedded_there_are_no_vectors(
    autojump_clock: Clock, path: str, body: dict[str, Any]
) -> None:
    """Ollama's empty list for a request that only loads a model is an answer."""
    async with open_scenario(models=MODELS) as scenario:
        reply = await scenario.ask(path, body)

    assert (reply.status, reply.headers["x-gateway-backend"]) == (200, "a")
    assert [] in reply.document.values()


@pytest.mark.parametrize("text", NO_OBJECTS)
@pytest.mark.parametrize(("path", "body"), [*WHOLE, *STREAMS])
async def test_what_is_no_object_is_a_failed_attempt(
    autojump_clock: Clock, path: str, body: dict[str, Any], text: bytes
) -> None:
    """Text that is no JSON object is no answer, whatever its type says."""
    kinds = {"/a": "application/x-ndjson", "/v": "text/event-stream"}
    kind = kinds[path[:2]] if body.get("stream") else "application/json"
    async with open_scenario(models=MODELS) as scenario:
        scenario.simulators["a"].script(answering(text, kind, line=True))
        reply = await scenario.ask(path, body)

    assert (reply.status, reply.headers["x-gateway-backend"]) == (200, "b")


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
