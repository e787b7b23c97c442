"""Dialects: the meaning of frames, and the form of the gateway's own errors."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.errors import (
    BadRequest,
    BodyTooLarge,
    Forbidden,
    GatewayError,
    LimitReached,
    Unauthorized,
    Unavailable,
    UpstreamFailed,
)
from ollama_gateway.wire.dialects import Dialect, Reading, ReportedUsage
from ollama_gateway.wire.dialects.anthropic import AnthropicDialect
from ollama_gateway.wire.dialects.ollama import OllamaDialect
from ollama_gateway.wire.dialects.openai import OpenAIDialect
from ollama_gateway.wire.dialects.responses import ResponsesDialect

OLLAMA, OPENAI = OllamaDialect(), OpenAIDialect()
RESPONSES, ANTHROPIC = ResponsesDialect(), AnthropicDialect()
ALL: tuple[Dialect, ...] = (OLLAMA, OPENAI, RESPONSES, ANTHROPIC)
ID = "0123456789abcdef"
COMPLETED = (
    b'{"response":{"error":null,"id":"r","usage":{"input_tokens":11,"output_tokens":2,'
    b'"total_tokens":13}},"sequence_number":9,"type":"response.completed"}'
)
START = b'{"type":"message_start","message":{"usage":{"input_tokens":40,"output_tokens":0}}}'
DELTA = b'{"type":"message_delta","delta":{},"usage":{"input_tokens":11,"output_tokens":2}}'
FAILED = (
    b'{"type":"response.failed","response":{"error":{"code":"x","message":"boom"},"usage":null}}'
)
DONE = b'{"model":"m","done":true,"prompt_eval_count":11,"eval_count":2}\n'
USAGE = b'{"id":"c","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":2}}'


def event(name: str, data: bytes) -> bytes:
    """Write a named event as Ollama does."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)


@pytest.mark.parametrize(
    ("dialect", "frame", "reading"),
    [
        (OLLAMA, b'{"model":"m","message":{"content":"Hel"},"done":false}\n', Reading()),
        (OLLAMA, DONE, Reading(is_last=True, usage=ReportedUsage(11, 2))),
        (OLLAMA, b'{"model":"m","done":true}\n', Reading(is_last=True)),
        (
            OLLAMA,
            b'{"done":true,"eval_count":2}\n',
            Reading(is_last=True, usage=ReportedUsage(None, 2)),
        ),
        (OLLAMA, b'{"model":"m","response":"\\"done\\":true","done":false}\n', Reading()),
        (OLLAMA, b'{"model": "m", "done": true}\n', Reading(is_last=True)),
        (OLLAMA, b'{"done":true,"eval_count":1000000001}\n', Reading(is_last=True)),
        (OLLAMA, b'{"model":"m","error":"late"}\n', Reading(error="late")),
        (OLLAMA, b'{"error":"out of memory"}\n', Reading(error="out of memory")),
        (OLLAMA, b'{"error":{"message":"x"}}\n', Reading(error="x")),
        (OLLAMA, b'{"error":7}\n', Reading(error="backend error")),
        (OLLAMA, b"<html>\n", Reading(is_garbled=True)),
        (OLLAMA, b"[1]\n", Reading(is_garbled=True)),
        (OLLAMA, b"data: {}\n", Reading(is_garbled=True)),
        (OPENAI, b'data: {"id":"c","choices":[{"delta":{}}]}\n\n', Reading()),
        (OPENAI, b"data: " + USAGE + b"\n\n", Reading(usage=ReportedUsage(11, 2))),
        (OPENAI, b"data: [DONE]\n\n", Reading(is_last=True)),
        (OPENAI, b"data:[DONE]\r\n\r\n", Reading(is_last=True)),
        (OPENAI, b'data: {"error":{"message":"boom"}}\n\n', Reading(error="boom")),
        (OPENAI, b'data: {"id":"c","usage":null,"choices":[]}\n\n', Reading()),
        (OPENAI, b'data: {"usage":{"prompt_tokens":0,"completion_tokens":0}}\n\n', Reading()),
        (RESPONSES, event("response.output_text.delta", b'{"delta":"error"}'), Reading()),
        (RESPONSES, event("response.created", b'{"response":{"error":null}}'), Reading()),
        (
            RESPONSES,
            event("response.completed", COMPLETED),
            Reading(is_last=True, usage=ReportedUsage(11, 2)),
        ),
        (
            RESPONSES,
            b"data: " + COMPLETED + b"\n\n",
            Reading(is_last=True, usage=ReportedUsage(11, 2)),
        ),
        (RESPONSES, event("response.failed", FAILED), Reading(error="boom")),
        (RESPONSES, event("error", b'{"type":"error","message":"boom"}'), Reading(error="boom")),
        (RESPONSES, b'data: {"error":{"message":"boom"}}\n\n', Reading(error="boom")),
        (RESPONSES, b"event: response.completed\ndata: nope\n\n", Reading(is_garbled=True)),
        (RESPONSES, b"data: [DONE]\n\n", Reading(is_garbled=True)),
        (RESPONSES, b'data: {"type":["response.completed"],"response":[]}\n\n', Reading()),
        (ANTHROPIC, b'data: {"type":["message_stop"],"usage":[]}\n\n', Reading()),
        (ANTHROPIC, event("message_start", START), Reading()),
        (ANTHROPIC, b"data: " + START + b"\n\n", Reading()),
        (ANTHROPIC, event("ping", b'{"type":"ping"}'), Reading()),
        (ANTHROPIC, event("content_block_delta", b'{"delta":{"text":"error"}}'), Reading()),
        (ANTHROPIC, event("message_delta", DELTA), Reading(usage=ReportedUsage(11, 2))),
        (ANTHROPIC, event("message_stop", b'{"type":"message_stop"}'), Reading(is_last=True)),
        (
            ANTHROPIC,
            event("error", b'{"type":"error","error":{"message":"x"}}'),
            Reading(error="x"),
        ),
        (ANTHROPIC, event("message_stop", b"[]"), Reading(is_garbled=True)),
        (OPENAI, b"data: nope\n\n", Reading(is_garbled=True)),
        (OPENAI, b'{"model":"m"}\n\n', Reading(is_garbled=True)),
    ],
)
def test_a_frame_is_read(dialect: Dialect, frame: bytes, reading: Reading) -> None:
    """Each frame has one meaning: ordinary, the end, an error, usage, or garbage."""
    assert dialect.read_frame(frame) == reading


@pytest.mark.parametrize(
    ("dialect", "body", "reading"),
    [
        (OLLAMA, b'{"embedding":[1.0]}', Reading(is_last=True)),
        (OLLAMA, DONE, Reading(is_last=True, usage=ReportedUsage(11, 2))),
        (OPENAI, USAGE, Reading(is_last=True, usage=ReportedUsage(11, 2))),
        (OPENAI, b'{"error":{"message":"no"}}', Reading(error="no")),
        (OPENAI, b'{"usage":{"prompt_tokens":0,"completion_tokens":0}}', Reading(is_last=True)),
        (
            RESPONSES,
            b'{"error":null,"usage":{"input_tokens":11,"output_tokens":2}}',
            Reading(is_last=True, usage=ReportedUsage(11, 2)),
        ),
        (RESPONSES, b'{"error":{"message":"no"}}', Reading(error="no")),
        (
            ANTHROPIC,
            b'{"type":"message","usage":{"input_tokens":11,"output_tokens":2}}',
            Reading(is_last=True, usage=ReportedUsage(11, 2)),
        ),
        (ANTHROPIC, b'{"type":"error","error":{"type":"x","message":"no"}}', Reading(error="no")),
        (
            ANTHROPIC,
            b'{"error":"ollama cloud is disabled"}',
            Reading(error="ollama cloud is disabled"),
        ),
        (OLLAMA, b"", Reading(is_garbled=True)),
        (OPENAI, b"\xff\xfe", Reading(is_garbled=True)),
        (OLLAMA, b"[" * 100_000, Reading(is_garbled=True)),
    ],
)
def test_a_whole_body_is_read(dialect: Dialect, body: bytes, reading: Reading) -> None:
    """A whole JSON answer is complete, and garbage of any depth is garbage."""
    assert dialect.read_body(body) == reading


@given(frame=st.binary(max_size=200))
def test_no_bytes_of_a_backend_break_the_reading(frame: bytes) -> None:
    """Any bytes of a backend are read without an exception."""
    for dialect in ALL:
        assert isinstance(dialect.read_frame(b"data: " + frame), Reading)
        assert isinstance(dialect.read_frame(frame), Reading)
        assert isinstance(dialect.read_body(frame), Reading)


@pytest.mark.parametrize("dialect", ALL)
@pytest.mark.parametrize("error", [BadRequest('a "b"\nc'), Forbidden(), UpstreamFailed()])
def test_errors_are_one_line(dialect: Dialect, error: GatewayError) -> None:
    """An error is one readable line, as the CLI shows only the first."""
    body, frame = dialect.error_body(error, ID), dialect.error_event(error, ID)

    assert body.count(b"\n") == (dialect is not OLLAMA)
    assert body.strip() == body.rstrip(b"\n")
    assert isinstance(json.loads(body), dict)
    assert dialect.read_body(body).error == error.message
    assert dialect.read_frame(frame).error == error.message
    assert frame.endswith(b"\n" if dialect is OLLAMA else b"}\n\n")


@pytest.mark.parametrize(
    ("dialect", "error", "shape"),
    [
        (OLLAMA, Forbidden("no"), {"error": "no"}),
        (
            OPENAI,
            BadRequest("no"),
            {
                "error": {
                    "message": "no",
                    "type": "invalid_request_error",
                    "param": None,
                    "code": None,
                }
            },
        ),
        (
            RESPONSES,
            Forbidden("no"),
            {"error": {"message": "no", "type": "api_error", "param": None, "code": None}},
        ),
        *(
            (
                ANTHROPIC,
                error,
                {
                    "type": "error",
                    "error": {"type": kind, "message": error.message},
                    "request_id": ID,
                },
            )
            for error, kind in (
                (BadRequest(), "invalid_request_error"),
                (Unauthorized(), "authentication_error"),
                (Forbidden(), "permission_error"),
                (BodyTooLarge(), "api_error"),
                (LimitReached(), "rate_limit_error"),
                (UpstreamFailed(), "api_error"),
                (Unavailable(), "overloaded_error"),
            )
        ),
    ],
)
def test_errors_have_ollamas_shapes(dialect: Dialect, error: GatewayError, shape: object) -> None:
    """An error is a string, OpenAI's object (api_error for a 403), or Anthropic's object."""
    assert json.loads(dialect.error_body(error, ID)) == shape
