"""Dialects: what frames mean, and how the gateway's own errors look."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.errors import BadRequest, Forbidden, GatewayError, UpstreamFailed
from ollama_gateway.wire.dialects import Dialect, Reading, Usage
from ollama_gateway.wire.dialects.ollama import OllamaDialect
from ollama_gateway.wire.dialects.openai import OpenAIDialect

OLLAMA, OPENAI = OllamaDialect(), OpenAIDialect()
DONE = b'{"model":"m","done":true,"prompt_eval_count":11,"eval_count":2}\n'
USAGE = b'{"id":"c","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":2}}'


@pytest.mark.parametrize(
    ("dialect", "frame", "reading"),
    [
        (OLLAMA, b'{"model":"m","message":{"content":"Hel"},"done":false}\n', Reading()),
        (OLLAMA, DONE, Reading(is_last=True, usage=Usage(11, 2))),
        (OLLAMA, b'{"model":"m","done":true}\n', Reading(is_last=True)),
        (OLLAMA, b'{"done":true,"eval_count":2}\n', Reading(is_last=True, usage=Usage(0, 2))),
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
        (OPENAI, b"data: " + USAGE + b"\n\n", Reading(usage=Usage(11, 2))),
        (OPENAI, b"data: [DONE]\n\n", Reading(is_last=True)),
        (OPENAI, b"data:[DONE]\r\n\r\n", Reading(is_last=True)),
        (OPENAI, b'data: {"error":{"message":"boom"}}\n\n', Reading(error="boom")),
        (OPENAI, b'data: {"id":"c","usage":null,"choices":[]}\n\n', Reading()),
        (OPENAI, b"data: nope\n\n", Reading(is_garbled=True)),
        (OPENAI, b'{"model":"m"}\n\n', Reading(is_garbled=True)),
    ],
)
def test_a_frame_is_read(dialect: Dialect, frame: bytes, reading: Reading) -> None:
    """Each frame means one thing: nothing special, the end, an error, usage, or garbage."""
    assert dialect.read(frame) == reading


@pytest.mark.parametrize(
    ("dialect", "body", "reading"),
    [
        (OLLAMA, b'{"embedding":[1.0]}', Reading(is_last=True)),
        (OLLAMA, DONE, Reading(is_last=True, usage=Usage(11, 2))),
        (OPENAI, USAGE, Reading(is_last=True, usage=Usage(11, 2))),
        (OPENAI, b'{"error":{"message":"no"}}', Reading(error="no")),
        (OLLAMA, b"", Reading(is_garbled=True)),
        (OPENAI, b"\xff\xfe", Reading(is_garbled=True)),
        (OLLAMA, b"[" * 100_000, Reading(is_garbled=True)),
    ],
)
def test_a_whole_body_is_read(dialect: Dialect, body: bytes, reading: Reading) -> None:
    """A JSON answer is complete by being whole, and garbage however deep is only garbage."""
    assert dialect.read_body(body) == reading


@given(frame=st.binary(max_size=200))
def test_no_bytes_of_a_backend_break_the_reading(frame: bytes) -> None:
    """Whatever a backend sends is read as something, never an exception."""
    for dialect in (OLLAMA, OPENAI):
        assert isinstance(dialect.read(frame), Reading)
        assert isinstance(dialect.read_body(frame), Reading)


@pytest.mark.parametrize("error", [BadRequest('a "b"\nc'), Forbidden(), UpstreamFailed()])
def test_errors_are_one_line(error: GatewayError) -> None:
    """The CLI shows the first line of an error only, so there is only one."""
    assert json.loads(OLLAMA.error_body(error)) == {"error": error.message}
    assert OLLAMA.error_event(error).count(b"\n") == 1
    assert json.loads(OPENAI.error_body(error))["error"]["message"] == error.message
    assert OPENAI.error_event(error).endswith(b"\n\n")
    assert OPENAI.read(OPENAI.error_event(error)).error == error.message
    assert OLLAMA.read(OLLAMA.error_event(error)).error == error.message


@pytest.mark.parametrize(
    ("error", "kind"),
    [(BadRequest(), "invalid_request_error"), (Forbidden(), "api_error")],
)
def test_openai_errors_have_ollamas_types(error: GatewayError, kind: str) -> None:
    """Types are those of Ollama's openai.NewError: 403 is an api_error there."""
    assert json.loads(OPENAI.error_body(error))["error"]["type"] == kind
