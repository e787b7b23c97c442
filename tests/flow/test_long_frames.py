"""Long frames of streams mean the same as short ones, and are read a slice at a time."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing

from ollama_gateway.flow.reading import reading_of
from ollama_gateway.simulator import Model, Script, Simulator
from ollama_gateway.wire.dialects import Dialect, Reading, ReportedUsage
from ollama_gateway.wire.dialects.anthropic import AnthropicDialect
from ollama_gateway.wire.dialects.ollama import OllamaDialect
from ollama_gateway.wire.dialects.openai import OpenAIDialect
from ollama_gateway.wire.dialects.reading import MAX_PARSED_FRAME
from ollama_gateway.wire.dialects.responses import ResponsesDialect
from ollama_gateway.wire.outline import SLICE
from tests.flow.dialects import RESPONSES
from tests.support.scenario import CHAT, open_scenario

Clock = trio.testing.MockClock
OLLAMA, OPENAI = OllamaDialect(), OpenAIDialect()
RESPONSES_, ANTHROPIC = ResponsesDialect(), AnthropicDialect()
LONG = [1] * MAX_PARSED_FRAME
COUNTS = {"prompt_eval_count": 11, "eval_count": 2}
TOKENS = {"input_tokens": 11, "output_tokens": 2}


def event(data: dict[str, Any], name: str = "") -> bytes:
    """Return a server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


@pytest.mark.parametrize(
    ("dialect", "frame", "reading"),
    [
        (
            OLLAMA,
            {"done": True, "context": LONG, **COUNTS},
            Reading(is_last=True, usage=ReportedUsage(11, 2)),
        ),
        (OLLAMA, {"model": "m", "done": False, "x": LONG}, Reading()),
        (OLLAMA, {"x": LONG, "error": "boom"}, Reading(error="boom")),
        (OLLAMA, {"x": [LONG, {"done": True, "error": 1, **COUNTS}]}, Reading()),
        (
            OPENAI,
            {"choices": [LONG], "usage": {"prompt_tokens": 11, "completion_tokens": 2}},
            Reading(usage=ReportedUsage(11, 2)),
        ),
        (OPENAI, {"choices": [LONG], "error": {"message": "boom"}}, Reading(error="boom")),
        (
            RESPONSES_,
            {"type": "response.completed", "response": {"output": LONG, "usage": TOKENS}},
            Reading(is_last=True, usage=ReportedUsage(11, 2)),
        ),
        (
            RESPONSES_,
            {"type": "response.failed", "response": {"output": LONG, "error": {"message": "no"}}},
            Reading(error="no"),
        ),
        (RESPONSES_, {"type": "x", "x": {"x": LONG, "usage": TOKENS}}, Reading()),
        (
            ANTHROPIC,
            {"type": "message_delta", "x": LONG, "usage": TOKENS},
            Reading(usage=ReportedUsage(11, 2)),
        ),
        (ANTHROPIC, {"type": "message_stop", "x": LONG}, Reading(is_last=True)),
        (ANTHROPIC, {"type": "error", "x": LONG, "error": {"message": "no"}}, Reading(error="no")),
    ],
)
async def test_a_long_frame_means_what_a_short_one_does(
    dialect: Dialect, frame: dict[str, Any], reading: Reading
) -> None:
    """Its top members count, and in Responses those of its response."""
    long = json.dumps(frame).encode() + b"\n" if dialect is OLLAMA else event(frame)

    assert len(long) > MAX_PARSED_FRAME
    assert await reading_of(long, dialect) == reading == dialect.read_frame(long)


@pytest.mark.parametrize(
    "frame",
    [
        b"x" * 2 * MAX_PARSED_FRAME + b"\n\n",
        b"data: [" + b"1," * MAX_PARSED_FRAME + b"1]\n\n",
        b'data: {"a":' + b"1" * MAX_PARSED_FRAME + b"\n\n",
        b"data:\n" * MAX_PARSED_FRAME + b"\n",
        b'data: {"a":1}\n' * MAX_PARSED_FRAME + b"\n",
        b"event: x\n" * MAX_PARSED_FRAME + b'data: {"error":1}\n\n',
    ],
)
async def test_long_garbage_is_garbled(frame: bytes) -> None:
    """An event of many data lines, which Ollama never sends, is not joined."""
    for dialect in (OPENAI, RESPONSES_, ANTHROPIC):
        assert await reading_of(frame[:-1] + b"\n", dialect) in (
            Reading(is_garbled=True),
            Reading(error="backend error"),
        )


async def test_others_have_their_turns_meanwhile() -> None:
    """Other tasks run between two slices, so no frame holds up the loop."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    frame = json.dumps({"done": True, "context": LONG}).encode() + b"\n"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        await reading_of(frame, OLLAMA)
        nursery.cancel_scope.cancel()

    assert turns >= len(frame) // SLICE - 1


async def test_a_long_line_at_the_end_of_a_stream(autojump_clock: Clock) -> None:
    """It passes unchanged, ends the stream, and its usage is charged."""
    first = b'{"model":"m1","message":{"content":"word"},"done":false}\n'
    last = json.dumps({"model": "m1", "done": True, "context": LONG, **COUNTS}).encode() + b"\n"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n\r\n"
    async with open_scenario({"a": Simulator([Model("m1:latest")])}) as scenario:
        scenario.simulators["a"].script(Script(raw=head + first + last))
        reply = await scenario.ask(body=CHAT)

    (record,) = scenario.records
    assert (reply.body == first + last, reply.is_complete) == (True, True)
    assert (record.prompt_tokens, record.completion_tokens, record.tokens_source) == (
        11,
        2,
        "reported",
    )


async def test_a_long_event_at_the_end_of_a_stream(autojump_clock: Clock) -> None:
    """The same holds for a server-sent event with its usage in the middle."""
    done = {"type": "response.completed", "response": {"usage": TOKENS, "output": LONG}}
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    async with open_scenario({"a": Simulator([Model("m1:latest")])}) as scenario:
        scenario.simulators["a"].script(Script(raw=head + event(done, "response.completed")))
        reply = await scenario.ask(RESPONSES.path, {**RESPONSES.body, "stream": True})

    (record,) = scenario.records
    assert (reply.body, reply.is_complete) == (event(done, "response.completed"), True)
    assert (record.prompt_tokens, record.completion_tokens, record.tokens_source) == (
        11,
        2,
        "reported",
    )
