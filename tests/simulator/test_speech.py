"""Thinking, tool calls and log probabilities, in every dialect that has them."""

from __future__ import annotations

from typing import Any

import pytest

from ollama_gateway.simulator import Call, Model, Simulator, memory_server
from tests.simulator.client import Answer, ask

HI = {"role": "user", "content": "hi"}
ARGUMENTS = {"city": "Oslo", "Days": [1, 2]}
MODEL = Model(
    "agent",
    ("Su", "nny"),
    capabilities=("completion", "tools", "thinking"),
    thinking=("hm", "m"),
    calls=(Call("weather", ARGUMENTS),),
)
SCHEMA = {"type": "object", "properties": {"City": {"type": "string"}}}
NESTED = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
FLAT = [{"type": "function", "name": "weather", "parameters": SCHEMA}]
NAMED = [{"name": "weather", "input_schema": SCHEMA}]
CHATS: dict[str, dict[str, Any]] = {
    "/api/chat": {"messages": [HI]},
    "/v1/chat/completions": {"messages": [HI]},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": [HI], "max_tokens": 99},
}
TOOLS = {
    "/api/chat": NESTED,
    "/v1/chat/completions": NESTED,
    "/v1/responses": FLAT,
    "/v1/messages": NAMED,
}
OFF: dict[str, dict[str, object]] = {
    "/api/chat": {"think": False},
    "/v1/chat/completions": {"reasoning_effort": "none"},
    "/v1/responses": {"reasoning": {"effort": "none"}},
    "/v1/messages": {"thinking": {"type": "disabled"}},
}
RESULTS: dict[str, dict[str, object]] = {
    "/api/chat": {"messages": [HI, {"role": "tool", "content": "sun"}]},
    "/v1/chat/completions": {
        "messages": [HI, {"role": "tool", "tool_call_id": "1", "content": "sun"}]
    },
    "/v1/responses": {
        "input": [HI, {"type": "function_call_output", "call_id": "1", "output": "sun"}]
    },
    "/v1/messages": {
        "messages": [
            HI,
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1"}]},
        ]
    },
}
REASONS = {
    "/api/chat": b'"done_reason":"stop"',
    "/v1/chat/completions": b'"finish_reason":"tool_calls"',
    "/v1/responses": b'"status":"completed"',
    "/v1/messages": b'"stop_reason":"tool_use"',
}


async def asked(path: str, body: dict[str, object], model: Model = MODEL) -> Answer:
    """Ask a simulator that hosts one model."""
    async with memory_server(Simulator([model])) as connect:
        sent = {"model": model.name} | CHATS.get(path, {}) | body
        return await ask(await connect(), "POST", path, sent)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", CHATS)
async def test_a_thinking_model_thinks_unless_it_is_told_not_to(path: str, *, stream: bool) -> None:
    """The answer holds thoughts by default, and none if they are turned off."""
    whole = b"hmm" if path == "/v1/responses" or not stream else b'"hm"'
    thought = await asked(path, {"stream": stream})
    plain = await asked(path, {"stream": stream} | OFF[path])

    assert whole in thought.body
    assert b"hm" not in plain.body
    assert b"nny" in plain.body


@pytest.mark.parametrize("path", CHATS)
async def test_a_model_that_cannot_think_refuses_or_lets_it_pass(path: str) -> None:
    """Asking a model for thoughts it cannot have is a 400, except for Anthropic's clients."""
    wanted: dict[str, dict[str, object]] = {
        "/api/chat": {"think": True},
        "/v1/chat/completions": {"reasoning_effort": "low"},
        "/v1/responses": {"reasoning": {"effort": "low"}},
        "/v1/messages": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
    }
    answer = await asked(path, wanted[path], Model("m1"))

    assert answer.status == (200 if path == "/v1/messages" else 400)
    assert (b"does not support thinking" in answer.body) is (answer.status == 400)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", CHATS)
async def test_an_offered_tool_is_called(path: str, *, stream: bool) -> None:
    """The call has its name and its arguments, and the end reports it in the dialect."""
    answer = await asked(path, {"tools": TOOLS[path], "stream": stream} | OFF[path])
    is_object = path == "/api/chat" or (path == "/v1/messages" and not stream)
    arguments = b'{"city":"Oslo","Days":[1,2]}'

    assert b'"name":"weather"' in answer.body
    assert (arguments if is_object else arguments.replace(b'"', rb"\"")) in answer.body
    assert REASONS[path] in answer.body
    assert b"nny" not in answer.body


@pytest.mark.parametrize("path", CHATS)
async def test_a_tool_that_is_not_offered_is_not_called(path: str) -> None:
    """Without the tool in the request the model answers in text."""
    answer = await asked(path, {"stream": False})

    assert b"Sunny" in answer.body
    assert b"weather" not in answer.body


@pytest.mark.parametrize("path", CHATS)
async def test_a_result_is_answered_in_words(path: str) -> None:
    """A conversation that ends with a tool's result gets no further call."""
    answer = await asked(path, {"tools": TOOLS[path], "stream": False} | RESULTS[path])

    assert b"Sunny" in answer.body
    assert b'"call_' not in answer.body


async def test_thoughts_and_calls_are_tokens() -> None:
    """Two thoughts and one call are three tokens; a limit cuts among them."""
    body: dict[str, object] = {"tools": NESTED, "stream": False}
    whole = await asked("/api/chat", body)
    cut = await asked("/api/chat", body | {"options": {"num_predict": 1}})

    assert whole.document["eval_count"] == 3
    assert (cut.document["message"], cut.document["done_reason"]) == (
        {"role": "assistant", "content": "", "thinking": "hm"},
        "length",
    )


async def test_responses_echo_tools_as_they_were_spelt() -> None:
    """Keys of a schema keep their case and are sorted, as Go writes a map."""
    answer = await asked("/v1/responses", {"tools": FLAT, "stream": False})

    assert answer.document["tools"] == [
        {
            "type": "function",
            "name": "weather",
            "description": None,
            "strict": None,
            "parameters": SCHEMA,
        }
    ]


@pytest.mark.parametrize(("top", "likely"), [(0, 0), (2, 2)])
async def test_log_probabilities_are_told_token_by_token(top: int, likely: int) -> None:
    """Each token has its bytes, and as many likely alternatives as requested."""
    body: dict[str, object] = {"logprobs": True, "top_logprobs": top, "stream": False}
    plain = Model("m1", ("ä", "b"))
    native = (await asked("/api/chat", body, plain)).document["logprobs"]
    openai = (await asked("/v1/chat/completions", body, plain)).document["choices"][0]["logprobs"]

    assert openai == {"content": native}
    assert [token["bytes"] for token in native] == [[0xC3, 0xA4], [0x62]]
    assert [len(token.get("top_logprobs", [])) for token in native] == [likely, likely]


async def test_completions_have_no_place_for_thoughts() -> None:
    """On `/v1/completions` a thought is an empty text."""
    body: dict[str, object] = {"prompt": "hi", "stream": True}
    answer = await asked("/v1/completions", body)
    texts = [event["choices"][0]["text"] for event in answer.events[:-1]]

    assert texts == ["", "", "Su", "nny", ""]
