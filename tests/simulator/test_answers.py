"""Answers that are not recorded but follow from Ollama's source; see also `test_recorded.py`."""

from __future__ import annotations

import pytest

from ollama_gateway.simulator import Call, Model, Script, Simulator, memory_server
from tests.simulator.client import Answer, ask

HI = [{"role": "user", "content": "hi"}]


async def asked(path: str, body: object, method: str = "POST") -> Answer:
    """Ask a simulator that hosts one model."""
    async with memory_server(Simulator([Model("m1")])) as connect:
        return await ask(await connect(), method, path, body)


async def test_no_models_are_an_empty_list_here_and_null_there() -> None:
    """Without models `/api/tags` has an empty array and `/v1/models` a null."""
    async with memory_server(Simulator()) as connect:
        stream = await connect()
        tags = await ask(stream, "GET", "/api/tags")
        models = await ask(stream, "GET", "/v1/models")

    assert tags.body == b'{"models":[]}'
    assert models.body == b'{"object":"list","data":null}\n'


async def test_a_plain_answer_has_only_the_headers_of_ollama() -> None:
    """Content-Type, Date and Content-Length come in Go's order; a query changes nothing."""
    answer = await asked("/api/version?x=1", b"", "GET")

    assert list(answer.headers) == ["content-type", "date", "content-length"]


async def test_a_null_after_a_value_changes_nothing() -> None:
    """Of equal keys the last one counts, unless it is null."""
    body = '{"model":"m1","model":null,"messages":[{"role":"user","content":"x"}],"stream":false}'

    assert (await asked("/api/chat", body)).document["model"] == "m1"


@pytest.mark.parametrize("keep_alive", [0, "0", "0s"])
async def test_an_empty_prompt_that_keeps_nothing_unloads(keep_alive: object) -> None:
    """With a zero in any notation nothing is generated, and the reason is `unload`."""
    answer = await asked("/api/generate", {"model": "m1", "keep_alive": keep_alive})

    assert answer.framing == "length"
    assert answer.document["done_reason"] == "unload"


@pytest.mark.parametrize(
    ("stream", "framing"), [(True, "chunked"), (False, "length")], ids=["stream", "whole"]
)
async def test_a_response_to_nothing_loads_the_model(stream: bool, framing: str) -> None:  # noqa: FBT001
    """Without input `/v1/responses` writes nothing, and completes with a usage of zeros."""
    answer = await asked("/v1/responses", {"model": "m1", "stream": stream})

    assert (answer.status, answer.framing) == (200, framing)
    assert b'"status":"completed"' in answer.body
    assert b'"total_tokens":0' in answer.body


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"input": 5}, "input must be a string or array"),
        ({"input": [{}]}, "input[0]: input item missing required 'type' field"),
        ({"input": [{"type": "x"}]}, 'input[0]: unknown input item type: "x"'),
        (
            {"input": [{"role": "user", "content": [{"type": "text"}]}]},
            "input[0]: content[0]: unknown content type: text",
        ),
        (
            {"input": "hi", "reasoning": {"effort": "huge"}},
            'invalid reasoning value: "huge" (must be "minimal", "low", "medium", "high", "xhi',
        ),
    ],
)
async def test_a_response_needs_input_that_ollama_knows(
    body: dict[str, object], message: str
) -> None:
    """Input that `/v1/responses` cannot convert is a 400 before the model is looked up."""
    answer = await asked("/v1/responses", {"model": "none"} | body)

    assert answer.status == 400
    assert answer.document["error"]["message"].startswith(message)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"type": "image"}, "invalid image source"),
        (
            {"type": "image", "source": {"type": "url"}},
            "invalid image source type: url. Only base64 images are supported.",
        ),
        ({"type": "tool_use", "name": "f"}, "tool_use block missing required 'id' field"),
        ({"type": "tool_use", "id": "1"}, "tool_use block missing required 'name' field"),
    ],
)
async def test_a_message_needs_blocks_that_ollama_knows(
    block: dict[str, object], message: str
) -> None:
    """Content that `/v1/messages` cannot convert is a 400 before the model is looked up."""
    turn = {"role": "user", "content": [block]}
    answer = await asked("/v1/messages", {"model": "none", "max_tokens": 1, "messages": [turn]})

    assert answer.status == 400
    assert answer.document["error"] == {"type": "invalid_request_error", "message": message}


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"messages": HI}, 1),
        ({"messages": [{"role": "user", "content": "x" * 36}]}, 10),
        ({"messages": [{"role": "user", "content": "ä" * 18}]}, 10),
        ({"messages": HI, "system": "x" * 34}, 10),
        ({"messages": HI, "system": [{"type": "text", "text": "x" * 34}]}, 10),
        ({"messages": HI, "tools": [{"name": "f" * 12, "description": "x" * 20}]}, 9),
    ],
)
async def test_the_first_event_of_a_message_guesses_the_prompt(
    body: dict[str, object], tokens: int
) -> None:
    """The estimate is a quarter of the bytes of roles, texts and tools; at least one token."""
    simulator = Simulator([Model("m1", capabilities=("completion", "tools"))])
    async with memory_server(simulator) as connect:
        sent = {"model": "m1", "max_tokens": 5, "stream": True} | body
        answer = await ask(await connect(), "POST", "/v1/messages", sent)

    first = answer.body.partition(b"\n\n")[0]
    assert f'"usage":{{"input_tokens":{tokens},"output_tokens":0}}'.encode() in first


async def test_an_answer_that_loops_ends_without_its_end() -> None:
    """After 31 equal tokens the body ends properly but without `done`."""
    simulator = Simulator([Model("m1", ("ha", "!"))])
    simulator.script(Script(loops=True), times=2)
    async with memory_server(simulator) as connect:
        stream = await connect()
        streamed = await ask(stream, "POST", "/api/chat", {"model": "m1", "messages": HI})
        body = {"model": "m1", "messages": HI, "stream": False}
        whole = await ask(stream, "POST", "/api/chat", body)

    assert streamed.is_complete
    assert [line["message"]["content"] for line in streamed.lines] == ["ha"] * 31
    assert not any(line["done"] for line in streamed.lines)
    assert (whole.status, whole.document["done"]) == (200, False)


@pytest.mark.parametrize("size", [2048, 2049])
async def test_what_is_longer_than_the_buffer_comes_in_chunks(size: int) -> None:
    """An answer of up to 2,048 bytes has a length, and a longer one is chunked."""
    frame = len('{"version":""}')
    async with memory_server(Simulator(version="x" * (size - frame))) as connect:
        told = await ask(await connect(), "GET", "/api/version")

    assert len(told.body) == size
    assert told.framing == ("length" if size == 2048 else "chunked")


async def test_a_template_of_jinja_puts_calls_into_the_last_record() -> None:
    """A Jinja template puts calls into the last record; others put them on a line before it."""
    tools = [{"type": "function", "function": {"name": "f"}}]
    last = []
    for is_jinja in (True, False):
        abilities = ("completion", "tools")
        model = Model("m1", capabilities=abilities, calls=(Call("f"),), is_jinja=is_jinja)
        async with memory_server(Simulator([model])) as connect:
            body = {"model": "m1", "messages": HI, "tools": tools}
            answer = await ask(await connect(), "POST", "/api/chat", body)
        last.append("tool_calls" in answer.lines[-1]["message"])

    assert last == [True, False]
