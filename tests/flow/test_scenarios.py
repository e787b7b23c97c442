"""Whole requests in virtual time: failover, leaving, deadlines, and their audit records."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from ollama_gateway.simulator import Model, Script, Simulator
from tests.support.scenario import CHAT, Scenario, open_scenario

Clock = trio.testing.MockClock
SLOW = Model("m1:latest", tokens=("a", "b", "c"), first_token=1, between_tokens=1)
OPENAI = {"model": "m1", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def outcome(scenario: Scenario) -> tuple[str, str | None]:
    """Return the outcome and reason of the only record."""
    assert len(scenario.records) == 1, "one record for one request"
    return scenario.records[0].outcome, scenario.records[0].reason


async def test_a_chat_streams_through(autojump_clock: Clock) -> None:
    """The client gets the backend's bytes as they arrive, and the record names the backend."""
    async with open_scenario(models=(SLOW,)) as scenario:
        reply = await scenario.ask()

    assert (reply.status, reply.text, reply.is_complete) == (200, "abc", True)
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert (reply.first_chunk_at, reply.ended_at) == (1, 3)
    record = scenario.records[0]
    assert (record.outcome, record.status) == ("completed", 200)
    assert (record.backend, record.model) == ("a", "m1:latest")
    assert (record.prompt_tokens, record.completion_tokens, record.ttft) == (11, 3, 1)
    assert record.request_id == reply.headers["x-request-id"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (Script(status=500, error="boom"), "status_500"),
        (Script(status=503, error="busy"), "status_503"),
        (Script(status=429, error="slow down"), "status_429"),
        (Script(status=404, error="model 'm1' not found"), "status_404"),
        (Script(status=302, error="elsewhere"), "status_302"),
        (Script(status=401, error="who"), "status_401"),
        (Script(cut_after=0), "connection_broken"),
        (Script(raw=b"SSH-2.0-x\r\n\r\n"), "connection_broken"),
        (Script(raw=b""), "connection_broken"),
        (
            Script(raw=b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n<html>"),
            "not_an_ollama",
        ),
        (
            Script(
                raw=b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n"
                b"content-encoding: gzip\r\n\r\n\x1f\x8b"
            ),
            "not_an_ollama",
        ),
        (
            Script(raw=b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n\r\n"),
            "empty_answer",
        ),
        (
            Script(raw=b'HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n\r\n{"mod'),
            "empty_answer",
        ),
        (
            Script(raw=b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n\r\nhello\n"),
            "garbled_answer",
        ),
        (
            Script(
                raw=b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n\r\n"
                b'{"error":"out of memory"}\n'
            ),
            "error_as_answer",
        ),
        (
            Script(
                raw=b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n"
                b"content-length: 100\r\n\r\n{"
            ),
            "connection_broken",
        ),
    ],
)
async def test_nobody_notices_a_backend_that_fails_before_its_first_chunk(
    autojump_clock: Clock,
    script: Script,
    reason: str,
) -> None:
    """However the first backend fails before a good chunk, the second one answers."""
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(script)
        reply = await scenario.ask()

    assert (reply.status, reply.text, reply.is_complete) == (200, "Hello", True)
    assert reply.headers["x-gateway-backend"] == "b"
    assert [(a.backend, a.reason) for a in scenario.records[0].attempts] == [
        ("a", reason),
        ("b", None),
    ]
    assert outcome(scenario) == ("completed", None)


async def test_a_refused_connection_is_the_next_candidate(autojump_clock: Clock) -> None:
    """A backend that died since its last poll costs a client nothing."""
    async with open_scenario() as scenario:
        scenario.simulators["a"].go_down()
        reply = await scenario.ask()

    assert (reply.status, reply.text) == (200, "Hello")
    assert scenario.records[0].attempts[0].reason == "connect_failed"


@pytest.mark.parametrize("path", ["/api/generate", "/v1/chat/completions", "/v1/completions"])
async def test_whole_answers_fail_over_too(
    autojump_clock: Clock,
    path: str,
) -> None:
    """A whole answer that is cut in the middle is asked for again at another backend."""
    body = {**OPENAI, "prompt": "hi", "stream": False}
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(Script(cut_after=1))
        reply = await scenario.ask(path, body)

    assert (reply.status, reply.is_complete) == (200, True)
    assert reply.headers["content-length"] == str(len(reply.body))
    assert scenario.records[0].backend == "b"
    assert (scenario.records[0].prompt_tokens, scenario.records[0].completion_tokens) == (11, 2)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (Script(cut_after=1), "connection_broken"),
        (Script(error_after=1, error="boom at http://10.0.0.1:1/x"), "error_in_stream"),
    ],
)
async def test_after_the_first_chunk_a_failure_is_told_and_the_stream_is_cut(
    autojump_clock: Clock,
    script: Script,
    reason: str,
) -> None:
    """The client gets an error event in the dialect and no end, so the stream is not complete."""
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(script)
        reply = await scenario.ask()

    assert (reply.status, reply.is_complete) == (200, False)
    assert set(reply.lines[-1]) == {"error"}
    assert "10.0.0.1" not in reply.body.decode()
    assert scenario.simulators["b"].seen[3:] == []
    assert outcome(scenario) == ("upstream_failed", reason)


async def test_an_error_whose_body_drips_delays_the_next_by_a_second(autojump_clock: Clock) -> None:
    """The race waits only a second for the text of an error."""
    head = b"HTTP/1.1 500 Oops\r\ncontent-type: application/json\r\n\r\n"
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(Script(raw=head + b" " * 1000, drip=0.01))
        reply = await scenario.ask()

    assert (reply.text, reply.headers["x-gateway-backend"]) == ("Hello", "b")
    assert reply.ended_at is not None
    assert reply.ended_at < 2


async def test_an_openai_stream_is_cut_with_an_event_its_client_raises(
    autojump_clock: Clock,
) -> None:
    """Ollama ends a failed /v1 stream silently; the gateway adds an error event."""
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(Script(error_after=1, error="boom"))
        reply = await scenario.ask("/v1/chat/completions", OPENAI)

    assert not reply.is_complete
    assert reply.body.endswith(b"\n\n")
    assert b'data: {"error":{"message":' in reply.body.split(b"\n\n")[-2]
    assert b"[DONE]" not in reply.body


@pytest.mark.parametrize(
    ("script", "status", "message"),
    [
        (Script(status=400, error="exceeds context"), 400, "exceeds context"),
        (
            Script(status=500, error='option "num_ctx" must be of type integer'),
            500,
            'option "num_ctx" must be of type integer',
        ),
    ],
)
async def test_the_clients_own_error_is_passed_on(
    autojump_clock: Clock,
    script: Script,
    status: int,
    message: str,
) -> None:
    """An error that every backend would give is passed on at once, in the backend's words."""
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(script)
        reply = await scenario.ask()

    assert (reply.status, reply.document) == (status, {"error": message})
    assert len(scenario.records[0].attempts) == 1
    assert outcome(scenario) == ("refused", "backend_refused")


async def test_a_huge_error_body_is_not_read(autojump_clock: Clock) -> None:
    """A 400 of 50 MiB becomes a short one, and its bytes are not held."""
    head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n\r\n"
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(Script(raw=head + b"x" * 50 * 2**20))
        reply = await scenario.ask()

    assert (reply.status, reply.document) == (400, {"error": "bad request"})


async def test_all_backends_failing_gives_the_last_ones_status(autojump_clock: Clock) -> None:
    """If every attempt failed, the client gets the last error, without addresses or paths."""
    async with open_scenario() as scenario:
        for simulator in scenario.simulators.values():
            simulator.script(Script(status=500, error="no room in /var/lib/x at 10.0.0.1:80"))
        reply = await scenario.ask()

    assert reply.status == 500
    assert reply.document == {"error": "no room in (hidden) at (hidden)"}
    assert outcome(scenario) == ("upstream_failed", "status_500")


async def test_a_model_the_last_backend_lacks_is_the_generic_403(autojump_clock: Clock) -> None:
    """A listed model that is gone gives the same 403 as one that never existed."""
    async with open_scenario() as scenario:
        for simulator in scenario.simulators.values():
            simulator.script(Script(status=404, error="model 'm1' not found"))
        gone = await scenario.ask()
        never = await scenario.ask(body={**CHAT, "model": "nope"})

    assert (gone.status, gone.body.replace(b"m1", b"nope")) == (403, never.body)
    assert never.status == 403
    assert [record.reason for record in scenario.records] == [
        "backend_lacks_model",
        "unknown_model",
    ]


async def test_what_goes_upstream(autojump_clock: Clock) -> None:
    """The body passes unchanged with its length, and without the client's credentials."""
    body = b'{ "model":"m1", "messages": [ ], "odd": 1.10 }'
    secrets = {"cookie": "c", "origin": "http://x", "x-forwarded-for": "1.1.1.1", "te": "trailers"}
    async with open_scenario() as scenario:
        await scenario.ask(body=body, headers={**secrets, "user-agent": "ollama/0.33"})
        seen = scenario.simulators["a"].seen[-1]

    headers = {name.decode().lower(): value.decode() for name, value in seen.headers}
    assert seen.body == body
    assert headers["content-length"] == str(len(body))
    assert headers["accept-encoding"] == "identity"
    assert headers["user-agent"] == "ollama/0.33"
    assert headers["host"] == "a"
    assert not set(headers) & {*secrets, "authorization", "x-api-key", "transfer-encoding"}


async def test_embeddings_get_the_backends_spelling(autojump_clock: Clock) -> None:
    """`/api/embeddings` is the one route that compares names with case."""
    embedder = Model("Nomic:latest", capabilities=("embedding",))
    async with open_scenario({"a": Simulator([embedder])}) as scenario:
        reply = await scenario.ask("/api/embeddings", {"model": "nomic", "prompt": "hi"})

    assert (reply.status, list(reply.document)) == (200, ["embedding"])


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/api/embed", {"input": ["a", "b"]}, "embeddings"),
        ("/api/embeddings", {"prompt": "a"}, "embedding"),
        ("/v1/embeddings", {"input": "a"}, "data"),
    ],
)
async def test_embeddings_pass(
    autojump_clock: Clock, path: str, body: dict[str, object], field: str
) -> None:
    """All three routes for embeddings are served and leave one record each."""
    async with open_scenario() as scenario:
        reply = await scenario.ask(path, {"model": "m1", **body})

    assert reply.status == 200
    assert field in reply.document
    assert [(record.outcome, record.endpoint) for record in scenario.records] == [
        ("completed", path)
    ]
