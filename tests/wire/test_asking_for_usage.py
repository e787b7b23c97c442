"""Usage in OpenAI's streams: the gateway asks for it for the client and removes it again."""

from __future__ import annotations

import json

import pytest

from ollama_gateway.simulator import gojson
from ollama_gateway.wire.body import parse
from ollama_gateway.wire.dialects import Dialect
from ollama_gateway.wire.dialects.anthropic import AnthropicDialect
from ollama_gateway.wire.dialects.ollama import OllamaDialect
from ollama_gateway.wire.dialects.openai import OpenAIDialect
from ollama_gateway.wire.dialects.responses import ResponsesDialect
from tests.wire.scanning import sent

OPENAI = OpenAIDialect()
ZERO = '"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}'
TEXT = 'data: {"id":"c","choices":[{"text":"a \\"usage\\" \\u00e9"}],"model":"m"%s}\n\n'


@pytest.mark.parametrize(
    ("member", "asks"),
    [
        ("", False),
        (',"stream_options":null', False),
        (',"stream_options":{}', False),
        (',"stream_options":{"include_usage":false}', False),
        (',"stream_options":{"include_usage":true}', True),
        (',"Stream_Option\u017f":{"INCLUDE_USAGE":true,"x":1}', True),
        (',"stream_options":{"include_usage":1}', False),
        (',"stream_options":{"include_usage":true,"Include_Usage":false}', False),
        (',"stream_options":{"include_usage":true,"include_usage":false}', False),
        (',"stream_options":[]', False),
    ],
)
def test_who_asked_for_usage(member: str, asks: bool) -> None:  # noqa: FBT001
    """Only an unambiguous request for usage counts; the gateway's own replaces anything else."""
    body = f'{{"model":"m"{member}}}'.encode()

    assert OPENAI.stream_has_usage(parse(body)) is asks
    asked = sent(OPENAI.with_usage(body))
    assert gojson.loads(asked)["stream_options"] == {"include_usage": True}
    assert asked.count(b"include_usage") == 1


@pytest.mark.parametrize("space", ["", " ", "\t "])
@pytest.mark.parametrize("more", ["", ',"x":1e2'])
def test_a_chunk_loses_its_usage_alone(space: str, more: str) -> None:
    """A chunk with text loses its usage and keeps every other byte."""
    without = TEXT % more
    chunk = TEXT % f"{space},{space}{ZERO}{more}"

    assert OPENAI.without_usage(chunk.encode()) == (TEXT % f"{space}{more}").encode()
    assert OPENAI.without_usage(without.encode()) == without.encode()


@pytest.mark.parametrize(
    ("event", "left"),
    [
        (f'data: {{"choices":[],{ZERO}}}\n\n', ""),
        (f'data: {{{ZERO},"choices":[1]}}\n\n', 'data: {"choices":[1]}\n\n'),
        (f"data: {{{ZERO}}}\n\n", "data: {}\n\n"),
        (f'data: {{"a":1,{ZERO},{ZERO},"b":2}}\n\n', 'data: {"a":1,"b":2}\n\n'),
        ('data: {"choices":[],"usage":null}\n\n', 'data: {"choices":[],"usage":null}\n\n'),
        ("data: [DONE]\n\n", "data: [DONE]\n\n"),
        ('data: {"usage"\n\n', 'data: {"usage"\n\n'),
        ('data: {"usage":1,\ndata: "a":2}\n\n', 'data: {"usage":1,\ndata: "a":2}\n\n'),
    ],
)
def test_what_is_left_of_an_event(event: str, left: str) -> None:
    """The chunk that only reports usage is removed; an event that Ollama would not write stays."""
    assert OPENAI.without_usage(event.encode()) == left.encode()


def test_bytes_that_are_no_text_stay() -> None:
    """An event that is not UTF-8 passes unchanged."""
    event = b'data: {"choices":[1],"x":"\xff","usage":{}}\n\n'

    assert OPENAI.without_usage(event) == event
    assert json.loads(OPENAI.without_usage(b'data: {"usage":{}}\n\n')[6:]) == {}


@pytest.mark.parametrize("dialect", [OllamaDialect(), ResponsesDialect(), AnthropicDialect()])
def test_other_dialects_report_usage_unasked(dialect: Dialect) -> None:
    """Their requests and frames pass unchanged."""
    body = b'{"model":"m","stream_options":{"include_usage":false}}'
    frame = b'data: {"choices":[],"usage":{"prompt_tokens":0}}\n\n'

    assert dialect.stream_has_usage(parse(body))
    assert dialect.with_usage(body) == body
    assert dialect.without_usage(frame) == frame
