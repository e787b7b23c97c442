"""Errors that the client caused, whatever status the backend gives them."""

from __future__ import annotations

import gzip
import json

import pytest
import trio.testing

from ollama_gateway.simulator import Script
from tests.support.scenario import open_scenario

Clock = trio.testing.MockClock


ERRORS = pytest.mark.parametrize(
    "error",
    [
        'option "stop" must be of type array',
        'invalid format: "x"; expected "json" or a valid JSON Schema object',
        'template: :1: function "x" not defined',
        "this model only supports one image while more than one image requested",
    ],
)


@ERRORS
async def test_a_500_that_is_the_clients_own_is_final(autojump_clock: Clock, error: str) -> None:
    """Ollama's 500 for a wrong request is passed on after one attempt, and blames no backend."""
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(Script(status=500, error=error))
        reply = await scenario.ask()

    assert (reply.status, reply.document["error"][:15]) == (500, error[:15])
    [record] = scenario.records
    assert (record.outcome, record.reason) == ("refused", "backend_refused")
    assert [attempt.backend for attempt in record.attempts] == ["a"]


@ERRORS
async def test_so_is_one_in_place_of_the_first_line(autojump_clock: Clock, error: str) -> None:
    """An older Ollama's 200 with such an error as its first line is final too."""
    line = json.dumps({"error": error}).encode() + b"\n"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n"
    raw = head + b"content-length: %d\r\n\r\n" % len(line) + line
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(Script(raw=raw))
        reply = await scenario.ask()

    assert (reply.status, reply.document["error"][:15]) == (500, error[:15])
    assert [attempt.backend for attempt in scenario.records[0].attempts] == ["a"]


async def test_any_other_500_is_tried_elsewhere(autojump_clock: Clock) -> None:
    """A 500 that only contains such a text moves the request to the next backend."""
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(Script(status=500, error="no template: out of memory"))
        reply = await scenario.ask()

    assert (reply.status, reply.headers["x-gateway-backend"]) == (200, "b")


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP"])
async def test_an_error_that_is_compressed_keeps_its_text(
    autojump_clock: Clock, coding: str
) -> None:
    """The text of a gzipped error reaches the client."""
    body = gzip.compress(b'{"error":"exceeds context"}')
    head = f"HTTP/1.1 400 Bad Request\r\ncontent-encoding: {coding}\r\n"
    raw = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(Script(raw=raw))
        reply = await scenario.ask()

    assert (reply.status, reply.document) == (400, {"error": "exceeds context"})


@pytest.mark.parametrize(
    "body",
    [b"no gzip", gzip.compress(b" " * 2**20), gzip.compress(b"{}")[:-5]],
    ids=["broken", "a bomb", "cut"],
)
async def test_an_error_that_cannot_be_unpacked_has_no_text(
    autojump_clock: Clock, body: bytes
) -> None:
    """An error body that is broken, cut or too large unpacked is ignored."""
    head = b"HTTP/1.1 400 Bad Request\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n"
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(Script(raw=head % len(body) + body))
        reply = await scenario.ask()

    assert (reply.status, reply.document) == (400, {"error": "bad request"})


async def test_places_in_a_list_are_no_addresses(autojump_clock: Clock) -> None:
    """`input[1]:` stays in an error, while IPv6 addresses are hidden."""
    text = "input[1]: too long, see [fe80::1]:80 and [::1]"
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(Script(status=400, error=text))
        reply = await scenario.ask()

    assert reply.document == {"error": "input[1]: too long, see (hidden) and (hidden)"}
