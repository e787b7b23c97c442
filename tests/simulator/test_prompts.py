"""The size of a prompt: each route's report, and the body as its bound."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.simulator import Model, Simulator, memory_server, prompts
from ollama_gateway.simulator.gojson import loads
from tests.simulator.client import Answer, ask

Document = dict[str, Any]
MODEL = Model("m1", capabilities=("completion", "tools", "insert", "embedding"))
CHAT = {"messages": [{"role": "user", "content": "12345"}]}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"minimum": 3}}}
PARTS = [{"type": "text", "text": "12345678"}, {"type": "text", "text": "1"}]
ROUTES: list[tuple[str, Document, int]] = [
    ("/api/chat", CHAT, 12),
    ("/api/chat", {"messages": CHAT["messages"] * 3, "prompt": "no part of it"}, 16),
    ("/api/chat", CHAT | {"tools": [TOOL]}, 14),
    ("/api/generate", {"prompt": "12345", "messages": ["no part of it"]}, 12),
    ("/api/generate", {"prompt": "1", "system": "1234", "context": [1, 2, 3]}, 15),
    ("/api/generate", {"prompt": "1", "suffix": "1", "images": ["aGVsbG8="]}, 14),
    ("/v1/chat/completions", CHAT, 12),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": PARTS}]}, 13),
    ("/v1/completions", {"prompt": "ää€€€", "suffix": "12345678"}, 14),
    ("/v1/responses", {"input": "12345", "instructions": "1"}, 13),
    ("/v1/responses", {"input": [{"role": "user", "content": "12345"}], "tools": [TOOL]}, 14),
    ("/v1/messages", CHAT | {"max_tokens": 9, "system": "1"}, 13),
    ("/api/embed", {"input": "12345"}, 2),
    ("/api/embed", {"input": ["12345", "", "1"]}, 3),
    ("/v1/embeddings", {"input": ["12345", "", "1"]}, 3),
]
NAMES = ("prompt_tokens", "prompt_eval_count", "input_tokens")
BROKEN = b'{"prompt":"\xff\xff\xff\xff\xff"}'
DEEP = b'{"messages":' + b"[" * 500 + b'"12345"' + b"]" * 500 + b"}"
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
TINY = st.lists(st.sampled_from(["a", "", 1, "ä", {}, []]), max_size=50)


async def asked(path: str, body: Document, model: Model = MODEL) -> Answer:
    """Ask a new simulator for a whole answer."""
    async with memory_server(Simulator([model])) as connect:
        return await ask(await connect(), "POST", path, {"model": "m1", "stream": False} | body)


def reported(answer: Answer) -> int:
    """Return the size of the prompt under any dialect's name."""
    document = answer.document
    usage = document.get("usage", document)
    return int(next(usage[name] for name in NAMES if name in usage))


@pytest.mark.parametrize(("path", "body", "tokens"), ROUTES)
async def test_each_route_reports_what_it_was_asked(path: str, body: Document, tokens: int) -> None:
    """Four characters of text are a token, a number is one, and a template adds ten."""
    assert reported(await asked(path, body)) == tokens


@pytest.mark.parametrize(("path", "body", "tokens"), ROUTES)
async def test_a_hidden_prompt_is_added_once(path: str, body: Document, tokens: int) -> None:
    """A hidden prompt adds that much to each request once, however many texts it has."""
    model = Model("m1", capabilities=MODEL.capabilities, hidden_prompt=1000)

    assert reported(await asked(path, body, model)) == 1000 + tokens


async def test_a_hidden_prompt_needs_a_prompt() -> None:
    """Without anything to embed, nothing runs or is reported."""
    answer = await asked("/api/embed", {}, Model("m1", hidden_prompt=1000))

    assert "prompt_eval_count" not in answer.document


@given(st.lists(JSON | TINY, min_size=1, max_size=4))
def test_a_prompt_is_bounded_by_the_bytes_of_its_body(values: list[object]) -> None:
    """For any fields, nested in any way, a prompt has at most a token per byte and a template's."""
    names = ["messages", "tools", "prompt", "context"][: len(values)]
    body = json.dumps(
        dict(zip(names, values, strict=True)), ensure_ascii=False, separators=(",", ":")
    ).encode("utf-8", "surrogatepass")

    assert prompts.of_fields(MODEL, loads(body), *names).tokens <= len(body) + prompts.TEMPLATE


@given(st.lists(st.text(max_size=5), max_size=50))
def test_texts_to_embed_are_bounded_by_their_bytes(texts: list[str]) -> None:
    """However short the texts are, they have no more tokens than the list has bytes."""
    body = json.dumps(texts, ensure_ascii=False, separators=(",", ":")).encode()

    assert prompts.of_texts(MODEL, texts) <= len(body)


def test_a_deep_body_is_counted_to_its_ground() -> None:
    """Nesting takes no stack, and invalid UTF-8 counts as its replacement characters."""
    assert prompts.of_fields(MODEL, loads(DEEP), "messages").tokens == 12
    assert prompts.of_fields(MODEL, loads(BROKEN), "prompt").tokens == 12


@pytest.mark.parametrize("value", [1, 4, 5, 9, 0, -1, None])
@pytest.mark.parametrize(
    ("path", "body", "option"),
    [
        ("/api/chat", CHAT, "num_predict"),
        ("/api/generate", {"prompt": "1"}, "num_predict"),
        ("/v1/chat/completions", CHAT, "max_tokens"),
        ("/v1/completions", {"prompt": "1"}, "max_tokens"),
        ("/v1/responses", {"input": "1"}, "max_output_tokens"),
    ],
)
async def test_a_limit_bounds_what_is_generated(
    path: str, body: Document, option: str, value: int | None
) -> None:
    """A limit bounds the tokens; none, 0 and less mean no limit."""
    given = {"options": {option: value}} if option == "num_predict" else {option: value}
    simulator = Simulator([Model("m1", ("x",) * 5)])
    async with memory_server(simulator) as connect:
        await ask(await connect(), "POST", path, {"model": "m1"} | body | given)

    limit = value if value and value > 0 else 5
    assert simulator.figures.completion_tokens == min(limit, 5)
