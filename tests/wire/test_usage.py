"""Usage as backends report it, and the amount of text in a frame where they do not."""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

import pytest

from ollama_gateway.wire.dialects import Dialect, ReportedUsage
from ollama_gateway.wire.dialects.anthropic import AnthropicDialect
from ollama_gateway.wire.dialects.ollama import OllamaDialect
from ollama_gateway.wire.dialects.openai import OpenAIDialect
from ollama_gateway.wire.dialects.reading import MAX_PARSED_FRAME, MAX_REPORTED_TOKENS
from ollama_gateway.wire.dialects.responses import ResponsesDialect
from ollama_gateway.wire.frames import LineFrames
from tests.simulator.recording import CUT, sections

OLLAMA, OPENAI = OllamaDialect(), OpenAIDialect()
RESPONSES, ANTHROPIC = ResponsesDialect(), AnthropicDialect()


def read(dialect: Dialect, usage: dict[str, Any]) -> ReportedUsage | None:
    """Read a whole answer with this report."""
    document = usage if dialect is OLLAMA else {"usage": usage}
    return dialect.read_body(json.dumps({"model": "m", **document}).encode()).usage


@pytest.mark.parametrize(
    ("dialect", "report", "usage"),
    [
        (OLLAMA, {"prompt_eval_count": 11, "eval_count": 2}, ReportedUsage(11, 2)),
        (OLLAMA, {"prompt_eval_count": 11}, ReportedUsage(11, None)),
        (OLLAMA, {"eval_count": 2}, ReportedUsage(None, 2)),
        (OLLAMA, {"prompt_eval_count": 0, "eval_count": 2}, ReportedUsage(None, 2)),
        (OLLAMA, {"prompt_eval_count": 0, "eval_count": 0}, None),
        (
            OLLAMA,
            {"eval_count": 20, "eval_duration": 5 * 10**8},
            ReportedUsage(None, 20, seconds=0.5),
        ),
        (OLLAMA, {"eval_count": 20, "eval_duration": -1}, ReportedUsage(None, 20)),
        (OLLAMA, {"eval_count": 20, "eval_duration": 10**400}, ReportedUsage(None, 20)),
        (OLLAMA, {"eval_count": 20, "eval_duration": "1"}, ReportedUsage(None, 20)),
        (OPENAI, {"prompt_tokens": 0, "completion_tokens": 2}, ReportedUsage(None, 2)),
        (OPENAI, {"prompt_tokens": 11, "total_tokens": 11}, ReportedUsage(11, None)),
        (RESPONSES, {"input_tokens": 0, "output_tokens": 2}, ReportedUsage(None, 2)),
        (ANTHROPIC, {"input_tokens": 11, "output_tokens": 0}, ReportedUsage(11, None)),
    ],
)
def test_each_half_of_a_report_is_read_for_itself(
    dialect: Dialect, report: dict[str, Any], usage: ReportedUsage | None
) -> None:
    """An absent or zero count reports nothing, as no prompt costs nothing."""
    assert read(dialect, report) == usage


@pytest.mark.parametrize(
    "value", [-1, 1.5, 2.0, "11", True, None, [11], {}, MAX_REPORTED_TOKENS + 1]
)
@pytest.mark.parametrize("dialect", [OLLAMA, OPENAI, RESPONSES, ANTHROPIC])
def test_what_is_no_count_tells_nothing(dialect: Dialect, value: object) -> None:
    """A value that is no count is ignored, in one half of the report as in both."""
    names: dict[Dialect, tuple[str, str]] = {
        OLLAMA: ("prompt_eval_count", "eval_count"),
        OPENAI: ("prompt_tokens", "completion_tokens"),
    }
    prompt, completion = names.get(dialect, ("input_tokens", "output_tokens"))

    assert read(dialect, {prompt: value, completion: value}) is None
    assert read(dialect, {prompt: value, completion: 2}) == ReportedUsage(None, 2)
    assert read(dialect, {prompt: 11, completion: value}) == ReportedUsage(11, None)


CALL = {"function": {"name": "say", "arguments": {"text": "word"}}}


@pytest.mark.parametrize(
    ("dialect", "frame", "least", "most"),
    [
        (OLLAMA, {"model": "m", "message": {"content": " word"}, "done": False}, 5, 5),
        (OLLAMA, {"model": "m", "message": {"content": "", "thinking": "word"}}, 4, 4),
        (OLLAMA, {"model": "m", "response": 'a"\\\n', "done": False}, 4, 7),
        (OLLAMA, {"model": "m", "message": {"content": "ab", "tool_calls": [CALL]}}, 50, 90),
        (OLLAMA, {"model": "content", "done": True, "context": [1, 2, 3]}, 0, 0),
    ],
)
def test_the_text_of_a_line(dialect: Dialect, frame: dict[str, Any], least: int, most: int) -> None:
    """Text, thinking and tool calls count, and nothing of the frame around them."""
    for separators in ((",", ":"), (", ", ": ")):
        line = json.dumps(frame, separators=separators).encode() + b"\n"
        assert least <= dialect.text_size(line) <= most


@pytest.mark.parametrize(
    ("dialect", "data", "size"),
    [
        (OPENAI, {"id": "c", "choices": [{"delta": {"role": "assistant", "content": "word"}}]}, 4),
        (OPENAI, {"id": "c", "choices": [{"delta": {"reasoning": "word"}}]}, 4),
        (OPENAI, {"id": "c", "choices": [{"text": "word", "index": 0}]}, 4),
        (
            OPENAI,
            {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "word"}}]}}]},
            4,
        ),
        (RESPONSES, {"type": "response.output_text.delta", "delta": "word"}, 4),
        (RESPONSES, {"type": "response.output_text.done", "text": "word" * 100}, 0),
        (RESPONSES, {"type": "response.created", "response": {"id": "r"}}, 0),
        (ANTHROPIC, {"type": "content_block_delta", "delta": {"text": "word"}}, 4),
        (ANTHROPIC, {"type": "content_block_delta", "delta": {"partial_json": "word"}}, 4),
        (ANTHROPIC, {"type": "message_start", "message": {"content": []}}, 0),
    ],
)
def test_the_text_of_an_event(dialect: Dialect, data: dict[str, Any], size: int) -> None:
    """Deltas count, and later events that repeat them do not."""
    name = data.get("type", "")
    head = f"event: {name}\n" if dialect is not OPENAI else ""
    assert dialect.text_size(f"{head}data: {json.dumps(data)}\n\n".encode()) == size


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        (OLLAMA, {"model": "m", "message": {"role": "assistant", "content": "word" * 10}}),
        (OPENAI, {"choices": [{"message": {"content": "word" * 10}}]}),
        (RESPONSES, {"output": [{"content": [{"type": "output_text", "text": "word" * 10}]}]}),
        (ANTHROPIC, {"content": [{"type": "text", "text": "word" * 10}]}),
    ],
)
def test_the_text_of_a_body(dialect: Dialect, body: dict[str, Any]) -> None:
    """The texts of a whole answer count too."""
    assert dialect.text_size(json.dumps(body).encode()) == 40


@pytest.mark.parametrize("dialect", [OLLAMA, OPENAI, RESPONSES, ANTHROPIC])
def test_no_text_is_looked_for_in_what_is_very_long(dialect: Dialect) -> None:
    """A very long frame counts whole."""
    frame = b'{"a":"' + b"\\" * MAX_PARSED_FRAME
    assert dialect.text_size(frame) == len(frame)


def test_all_text_that_ollama_sent_is_found() -> None:
    """In recorded frames the count is at least a reader's; escapes make it larger."""
    lines = [
        line
        for probe in chain.from_iterable(sections().values())
        if probe.path in {"/api/chat", "/api/generate"} and CUT not in probe.answer
        for line in LineFrames().feed(probe.answer.encode())
    ]
    said = 0
    for line in lines:
        document = json.loads(line)
        message = document.get("message", document)
        words = [message.get(name, "") for name in ("content", "thinking", "response")]
        found = sum(len(word.encode()) for word in words)
        if "tool_calls" not in message:
            assert found <= OLLAMA.text_size(line) <= 6 * found
        said += found
    assert said > 50
