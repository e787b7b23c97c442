"""Usage reports that lack a half: it is counted, charged and marked, in every dialect."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio.testing

from ollama_gateway.keys.key import KeyLimits
from ollama_gateway.simulator import Script
from tests.flow.limited import limited
from tests.support.scenario import open_scenario

Clock = trio.testing.MockClock
WORDS = "word " * 4000
PROMPT = {"model": "m1", "messages": [{"role": "user", "content": WORDS}]}
ESTIMATE = len(json.dumps({**PROMPT, "stream": False})) // 4
BUDGET = KeyLimits(tokens_per_day=1_000_000)
NATIVE, OPENAI, RESPONSES, ANTHROPIC = (
    "/api/chat",
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/messages",
)
NAMES = {
    NATIVE: ("prompt_eval_count", "eval_count"),
    OPENAI: ("prompt_tokens", "completion_tokens"),
    RESPONSES: ("input_tokens", "output_tokens"),
    ANTHROPIC: ("input_tokens", "output_tokens"),
}
ANSWERS: dict[str, dict[str, Any]] = {
    NATIVE: {"model": "m1", "message": {"role": "assistant", "content": "word" * 6}, "done": True},
    OPENAI: {"choices": [{"index": 0, "message": {"role": "assistant", "content": "word" * 6}}]},
    RESPONSES: {"output": [{"content": [{"type": "output_text", "text": "word" * 6}]}]},
    ANTHROPIC: {"type": "message", "content": [{"type": "text", "text": "word" * 6}]},
}
"""Whole answers of 24 bytes of text."""


def whole(document: dict[str, Any]) -> Script:
    """A backend's whole answer."""
    return raw("application/json", json.dumps(document).encode())


def raw(kind: str, body: bytes) -> Script:
    """Return an answer of these bytes."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return Script(raw=head.encode() + body)


def reporting(path: str, report: dict[str, Any]) -> Script:
    """Return a whole answer with this usage, in the dialect of the path."""
    usage = report if path == NATIVE else {"usage": report}
    return whole({**ANSWERS[path], **usage})


def body_for(path: str) -> dict[str, Any]:
    """Return a request with a prompt of 20 kB."""
    asked = {"model": "m1", "input": WORDS} if path == RESPONSES else PROMPT
    return {**asked, "stream": False}


async def charge(script: Script, path: str, body: dict[str, Any]) -> tuple[Any, ...]:
    """Return the token fields of the record of a charged request."""
    async with limited(BUDGET) as key:
        key.scenario.simulators["a"].script(script)
        reply = await key.ask(path, body)
        usage = await key.usage()

    (record,) = key.scenario.records
    assert reply.status == 200
    assert usage.day == (record.prompt_tokens or 0) + (record.completion_tokens or 0)
    return record.prompt_tokens, record.completion_tokens, record.tokens_source


@pytest.mark.parametrize("path", NAMES)
async def test_a_prompt_that_is_not_told_is_counted(autojump_clock: Clock, path: str) -> None:
    """It is a quarter of its bytes, whether the count is missing, 0 or not a number."""
    prompt, completion = NAMES[path]
    for report in (
        {completion: 20},
        {prompt: 0, completion: 20},
        {prompt: -5000, completion: 20},
        {prompt: "5000", completion: 20},
        {prompt: 10**30, completion: 20},
    ):
        found = await charge(reporting(path, report), path, body_for(path))
        assert found == (pytest.approx(ESTIMATE, rel=0.01), 20, "prompt_counted")


@pytest.mark.parametrize("path", NAMES)
async def test_an_answer_that_is_not_told_is_counted(autojump_clock: Clock, path: str) -> None:
    """It is a quarter of its text's bytes, and never negative."""
    prompt, completion = NAMES[path]
    for value in (0, None, -20, 1.5, True):
        report = {prompt: 4000, completion: value}
        found = await charge(reporting(path, report), path, body_for(path))
        assert found == (4000, 6, "completion_counted")


async def test_a_long_answer_that_is_not_told_is_counted(autojump_clock: Clock) -> None:
    """Its text counts even though it is read in slices."""
    message = {"message": {"role": "assistant", "content": "word" * 15_000}}
    answer = {**ANSWERS[NATIVE], **message, "prompt_eval_count": 4000}
    body = {**body_for(NATIVE), "options": {"num_predict": 20_000}}
    found = await charge(whole(answer), NATIVE, body)
    assert found == (4000, 15_000, "completion_counted")


@pytest.mark.parametrize("path", NAMES)
async def test_what_is_not_told_at_all_is_counted(autojump_clock: Clock, path: str) -> None:
    """Both halves are counted, as for a cut stream."""
    found = await charge(whole(ANSWERS[path]), path, body_for(path))
    assert found == (pytest.approx(ESTIMATE, rel=0.01), 6, "counted")


@pytest.mark.parametrize(
    ("path", "report"),
    [
        (NATIVE, {"prompt_eval_count": 5000, "prompt_eval_cached_count": 4999, "eval_count": 20}),
        (NATIVE, {"prompt_eval_cached_count": 5000, "eval_count": 20}),
        (
            OPENAI,
            {
                "prompt_tokens": 5000,
                "completion_tokens": 20,
                "prompt_tokens_details": {"cached_tokens": 5000},
            },
        ),
        (
            RESPONSES,
            {
                "input_tokens": 5000,
                "output_tokens": 20,
                "input_tokens_details": {"cached_tokens": 5000},
            },
        ),
        (
            ANTHROPIC,
            {"input_tokens": 0, "cache_read_input_tokens": 5000, "output_tokens": 20},
        ),
    ],
)
async def test_a_cached_prompt_that_is_told_is_reported(
    autojump_clock: Clock, path: str, report: dict[str, Any]
) -> None:
    """A full cache hit costs the backend's own figure, the same in every dialect."""
    found = await charge(reporting(path, report), path, body_for(path))
    assert found == (5000, 20, "reported")


@pytest.mark.parametrize(
    ("kind", "path", "body"),
    [
        (
            "application/x-ndjson",
            NATIVE,
            b'{"model":"m1","message":{"content":"word"},"done":false}\n' * 3
            + b'{"model":"m1","message":{"content":""},"done":true,%b}\n',
        ),
        (
            "text/event-stream",
            OPENAI,
            b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"word"}}]}\n\n' * 3
            + b'data: {"id":"c","choices":[],"usage":{%b}}\n\ndata: [DONE]\n\n',
        ),
        (
            "text/event-stream",
            RESPONSES,
            b"event: response.output_text.delta\n"
            b'data: {"type":"response.output_text.delta","delta":"word"}\n\n'
            * 3
            + b'event: response.completed\ndata: {"type":"response.completed","response":'
            b'{"usage":{%b}}}\n\n',
        ),
        (
            "text/event-stream",
            ANTHROPIC,
            b"event: content_block_delta\n"
            b'data: {"type":"content_block_delta","delta":{"text":"word"}}\n\n'
            * 3
            + b'event: message_delta\ndata: {"type":"message_delta","usage":{%b}}\n\n'
            b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
        ),
    ],
)
async def test_half_a_report_at_the_end_of_a_stream(
    autojump_clock: Clock, kind: str, path: str, body: bytes
) -> None:
    """The missing half is the prompt's estimate, or one token for each relayed chunk."""
    prompt, completion = NAMES[path]
    request = {**body_for(path), "stream": True}
    scenario = b'"%b":20' % completion.encode()
    found = await charge(raw(kind, body % scenario), path, request)
    assert found == (pytest.approx(ESTIMATE, rel=0.01), 20, "prompt_counted")

    scenario = b'"%b":4000' % prompt.encode()
    found = await charge(raw(kind, body % scenario), path, request)
    assert found[0::2] == (4000, "completion_counted")
    assert 3 <= found[1] <= 5


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/api/embed", {"model": "m1", "embeddings": [[1.0]]}),
        ("/api/embed", {"model": "m1", "embeddings": [[1.0]], "prompt_eval_count": 0}),
        ("/v1/embeddings", {"data": [{}], "usage": {"prompt_tokens": 0, "total_tokens": 0}}),
    ],
)
async def test_embeddings_without_a_count_are_counted(
    autojump_clock: Clock, path: str, answer: dict[str, Any]
) -> None:
    """Their inputs are counted, and nothing else."""
    found = await charge(whole(answer), path, {"model": "m1", "input": ["x" * 400] * 10})
    assert found == (1000, 0, "counted")


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/api/embed", {"model": "m1", "embeddings": [[1.0]], "prompt_eval_count": 7}),
        ("/v1/embeddings", {"data": [{}], "usage": {"prompt_tokens": 7, "total_tokens": 7}}),
    ],
)
async def test_embeddings_report_their_prompt_alone(
    autojump_clock: Clock, path: str, answer: dict[str, Any]
) -> None:
    """That is a full report, since an embedding has no completion tokens."""
    assert await charge(whole(answer), path, {"model": "m1", "input": "x"}) == (7, 0, "reported")


async def test_without_a_budget_a_prompt_that_is_not_told_is_unknown(
    autojump_clock: Clock,
) -> None:
    """Without a budget the body is not measured; relayed tokens are always counted."""
    async with open_scenario() as scenario:
        for report in ({"eval_count": 20}, {"prompt_eval_count": 11}, {}):
            scenario.simulators["a"].script(reporting(NATIVE, report))
            await scenario.ask(NATIVE, body_for(NATIVE))

    found = [
        (record.prompt_tokens, record.completion_tokens, record.tokens_source)
        for record in scenario.records
    ]
    assert found == [(None, 20, "reported"), (11, 6, "completion_counted"), (None, 6, "counted")]
