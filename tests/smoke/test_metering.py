"""Each client library, unchanged, sees the usage that is metered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import anthropic
import ollama
import openai
import pytest

from tests.smoke.asking import SAY_HI
from tests.smoke.fleet import Fleet
from tests.smoke.metering import (
    AGENT,
    DOOMED,
    PICTURE,
    PLAIN,
    SLOW,
    TEXT,
    THOUGHTS,
    TOOLS,
    Visitor,
    visited,
)

URL: Final = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
SOURCE: Final = {"type": "base64", "media_type": "image/png", "data": PICTURE}
LOOK: Final = {"type": "text", "text": "what is it?"}
CALLED: Final[tuple[str, dict[str, str]]] = ("get_weather", {})


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Run one gateway with four backends."""
    with visited(tmp_path_factory.mktemp("data")) as started:
        yield started


@pytest.fixture
def visitor(fleet: Fleet) -> Iterator[Visitor]:
    """Return clients of a key that makes one request."""
    came = Visitor(fleet)
    with came.clients:
        yield came


def reported(prompt: int | None, completion: int | None) -> tuple[Any, ...]:
    """Return the metered figures of a backend that reports its usage."""
    return ("completed", prompt, completion, "reported")


def test_ollamas_chat_streams(visitor: Visitor) -> None:
    """Text comes in parts, and the last part has the counts."""
    *parts, last = visitor.ollama.chat(PLAIN, SAY_HI, stream=True)

    assert "".join(part.message.content or "" for part in parts) == TEXT
    assert last.done
    assert last.eval_count == 5
    assert visitor.metered() == reported(last.prompt_eval_count, 5)


def test_ollamas_client_calls_tools_and_thinks(visitor: Visitor) -> None:
    """A tool call comes whole, after the thinking."""
    answer = visitor.ollama.chat(AGENT, SAY_HI, tools=TOOLS, think=True)

    calls = [(c.function.name, c.function.arguments) for c in answer.message.tool_calls or ()]
    assert (calls, answer.message.thinking) == ([CALLED], THOUGHTS)
    assert visitor.metered() == reported(answer.prompt_eval_count, answer.eval_count)


def test_ollamas_client_shows_pictures(visitor: Visitor) -> None:
    """A message may have a picture."""
    seen: Any = [{"role": "user", "content": "what is it?", "images": [PICTURE]}]
    answer = visitor.ollama.chat(PLAIN, seen)

    assert answer.message.content == TEXT
    assert visitor.metered() == reported(answer.prompt_eval_count, 5)


def test_ollamas_client_embeds(visitor: Visitor) -> None:
    """Each input has its vector, and only prompt tokens are metered."""
    answer = visitor.ollama.embed(PLAIN, ["a", "b"])

    assert len(answer.embeddings) == 2
    assert visitor.metered() == reported(answer.prompt_eval_count, 0)


def test_ollamas_older_embeddings_are_counted(visitor: Visitor) -> None:
    """An answer without usage is counted: a quarter of its bytes."""
    assert visitor.ollama.embeddings(PLAIN, "x" * 40).embedding
    assert visitor.metered() == ("completed", 10, 0, "counted")


def test_ollamas_client_raises_a_backends_refusal(visitor: Visitor) -> None:
    """An error before the first chunk is passed on and costs nothing."""
    with pytest.raises(ollama.ResponseError, match="does not support tools") as caught:
        next(iter(visitor.ollama.chat(PLAIN, SAY_HI, tools=TOOLS, stream=True)))

    assert caught.value.status_code == 400
    assert visitor.metered() == ("refused", None, None, None)


def test_openais_chat_calls_tools_and_thinks(visitor: Visitor) -> None:
    """A stream has thinking, a tool call and the metered usage."""
    wish: Any = {"include_usage": True}
    chunks = list(
        visitor.openai.chat.completions.create(
            model=AGENT, messages=SAY_HI, tools=TOOLS, stream=True, stream_options=wish
        )
    )
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    calls = [call.function for delta in deltas for call in delta.tool_calls or ()]
    thoughts = "".join(getattr(delta, "reasoning", None) or "" for delta in deltas)
    usage = chunks[-1].usage

    assert [(call.name, json.loads(call.arguments or "")) for call in calls if call] == [CALLED]
    assert thoughts == THOUGHTS
    assert usage is not None
    assert visitor.metered() == reported(usage.prompt_tokens, usage.completion_tokens)


def test_openais_chat_shows_pictures(visitor: Visitor) -> None:
    """A message may have a picture part."""
    messages: Any = [{"role": "user", "content": [LOOK, URL]}]
    answer = visitor.openai.chat.completions.create(model=PLAIN, messages=messages)

    assert answer.choices[0].message.content == TEXT
    assert answer.usage is not None
    assert visitor.metered() == reported(answer.usage.prompt_tokens, 5)


def test_openais_completions_stream(visitor: Visitor) -> None:
    """Completions stream and are metered, even if the client does not ask for usage."""
    chunks = list(visitor.openai.completions.create(model=PLAIN, prompt="hi", stream=True))

    assert "".join(chunk.choices[0].text for chunk in chunks) == TEXT
    assert visitor.metered()[2:] == (5, "reported")


def test_openais_embeddings(visitor: Visitor) -> None:
    """The client gets base64 and decodes it."""
    answer = visitor.openai.embeddings.create(model=PLAIN, input=["a", "b"])

    assert [len(item.embedding) for item in answer.data] == [8, 8]
    assert visitor.metered() == reported(answer.usage.prompt_tokens, 0)


def test_openais_responses_call_tools(visitor: Visitor) -> None:
    """A response has thinking and tool call as items."""
    flat: Any = [{"type": "function", "strict": False, **TOOLS[0]["function"]}]
    answer = visitor.openai.responses.create(model=AGENT, input="hi", tools=flat)
    calls = [item for item in answer.output if item.type == "function_call"]

    assert [(call.name, json.loads(call.arguments)) for call in calls] == [CALLED]
    assert {item.type for item in answer.output} == {"reasoning", "function_call"}
    assert answer.usage is not None
    assert visitor.metered() == reported(answer.usage.input_tokens, answer.usage.output_tokens)


def test_openais_client_raises_a_backends_refusal(visitor: Visitor) -> None:
    """An error before the first chunk of a stream is an exception of the call itself."""
    with pytest.raises(openai.BadRequestError, match="does not support tools"):
        visitor.openai.chat.completions.create(
            model=PLAIN, messages=SAY_HI, tools=TOOLS, stream=True
        )
    assert visitor.metered() == ("refused", None, None, None)


def test_openais_models(visitor: Visitor) -> None:
    """Every model is listed, and each can be retrieved by its name."""
    listed = {model.id for model in visitor.openai.models.list()}

    assert listed >= {AGENT, PLAIN, SLOW}
    assert visitor.openai.models.retrieve(PLAIN).id == PLAIN


def test_claudes_client_calls_tools_and_thinks(visitor: Visitor) -> None:
    """A stream collects thinking and a tool call into a message."""
    tools: Any = [{"name": "get_weather", "description": "d", "input_schema": {"type": "object"}}]
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    options: Any = {"messages": SAY_HI, "tools": tools, "thinking": thinking}
    with visitor.anthropic.messages.stream(model=AGENT, max_tokens=2000, **options) as stream:
        final = stream.get_final_message()
    blocks = {block.type: block for block in final.content}

    thought, called = blocks["thinking"], blocks["tool_use"]
    assert thought.type == "thinking"
    assert thought.thinking == THOUGHTS
    assert called.type == "tool_use"
    assert (called.name, called.input) == CALLED
    assert final.stop_reason == "tool_use"
    assert visitor.metered() == reported(final.usage.input_tokens, final.usage.output_tokens)


def test_claudes_client_shows_pictures(visitor: Visitor) -> None:
    """A message may have a picture block."""
    messages: Any = [{"role": "user", "content": [LOOK, {"type": "image", "source": SOURCE}]}]
    answer = visitor.anthropic.messages.create(model=PLAIN, max_tokens=50, messages=messages)

    assert [block.text for block in answer.content if block.type == "text"] == [TEXT]
    assert visitor.metered() == reported(answer.usage.input_tokens, 5)


def test_claudes_client_raises_a_backends_refusal(visitor: Visitor) -> None:
    """An error before the first chunk of a stream is an exception of the call itself."""
    tools: Any = [{"name": "f", "description": "d", "input_schema": {"type": "object"}}]
    with pytest.raises(anthropic.BadRequestError, match="does not support tools"):
        visitor.anthropic.messages.create(
            model=PLAIN, max_tokens=5, messages=SAY_HI, tools=tools, stream=True
        )
    assert visitor.metered() == ("refused", None, None, None)


def begun(visitor: Visitor, name: str, model: str) -> tuple[Any, Any]:
    """Start a stream of one client and read its first part; return the stream and its rest."""
    ask: dict[str, Any] = {"model": model, "messages": SAY_HI, "stream": True}
    match name:
        case "ollama":
            stream: Any = visitor.ollama.chat(**ask)
        case "openai":
            stream = visitor.openai.chat.completions.create(**ask)
        case _:
            stream = visitor.anthropic.messages.create(**ask, max_tokens=50_000)
    remainder = iter(stream)
    next(remainder)
    return stream, remainder


@pytest.mark.parametrize("name", ["ollama", "openai", "anthropic"])
def test_a_client_that_leaves_is_noticed(visitor: Visitor, name: str) -> None:
    """If a client closes its stream, the backend stops, and the tokens so far are counted."""
    stream, _ = begun(visitor, name, SLOW)
    stream.close()

    outcome, prompt, completion, source = visitor.metered()
    assert (outcome, prompt, source) == ("client_gone", None, "counted")
    assert 1 <= completion < 500
    assert visitor.fleet.figures("c").in_flight == 0


def test_a_stream_that_breaks_is_raised_by_ollamas_client(visitor: Visitor) -> None:
    """An error after the first chunk raises; the iteration does not end normally."""
    _, remainder = begun(visitor, "ollama", DOOMED)
    visitor.fleet.simulators["d"].popen.kill()

    with pytest.raises(ollama.ResponseError, match="broke off"):
        list(remainder)
    outcome, _, completion, source = visitor.metered()
    assert (outcome, source) == ("upstream_failed", "counted")
    assert completion >= 1
