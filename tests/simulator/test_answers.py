"""Answers beside what the real server was recorded to say: status, type, framing, body.

Recorded from Ollama v0.33.0-rc2 with the model `m1` (tokens "Hel", "lo"; 11 prompt tokens). What
differs by nature (dates, durations, ids, vectors, digests) is replaced on both sides by `masked`.
"""

from __future__ import annotations

import pytest

from ollama_gateway.simulator import Model, Simulator, memory_server
from tests.simulator.client import Answer, ask
from tests.simulator.probe import Probe, masked
from tests.simulator.recorded_answers import ANSWERS
from tests.simulator.recorded_errors import ERRORS
from tests.simulator.recorded_routes import ROUTES


async def replay(probe: Probe) -> Answer:
    """Send a probe to a fresh simulator."""
    simulator = Simulator([Model("m1", prompt_tokens=11)], version="0.0.0")
    async with memory_server(simulator) as connect:
        stream = await connect()
        return await ask(stream, probe.method, probe.path, probe.body, dict(probe.headers))


@pytest.mark.parametrize("probe", [*ROUTES, *ERRORS, *ANSWERS], ids=str)
async def test_an_answer_is_the_recorded_one(probe: Probe) -> None:
    """Status, content type, framing and body are those the real server was seen to send."""
    answer = await replay(probe)

    assert (answer.status, answer.kind) == (probe.status, probe.kind)
    assert masked(answer.body.decode()) == probe.expected
    assert answer.framing == probe.framing
    assert dict(probe.answered).items() <= answer.headers.items()
    assert answer.is_complete


async def test_no_models_are_an_empty_list_here_and_null_there() -> None:
    """Without models `/api/tags` has an empty array and `/v1/models` a null."""
    async with memory_server(Simulator()) as connect:
        stream = await connect()
        tags = await ask(stream, "GET", "/api/tags")
        models = await ask(stream, "GET", "/v1/models")

    assert tags.body == b'{"models":[]}'
    assert models.body == b'{"object":"list","data":null}\n'


async def test_a_plain_answer_has_only_the_headers_of_ollama() -> None:
    """Content-Type, Date and Content-Length come in Go's order, and nothing else comes."""
    async with memory_server(Simulator([Model("m1")])) as connect:
        answer = await ask(await connect(), "GET", "/api/version")

    assert list(answer.headers) == ["content-type", "date", "content-length"]
