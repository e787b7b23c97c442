"""Bodies compressed with zstd are accepted on `/v1` only, and bounded like others."""

from __future__ import annotations

import base64
import json
import os
import sys

import pytest

from ollama_gateway.simulator import Model, Simulator
from tests.flow.dialects import SSE
from tests.support.scenario import CHAT, Scenario, open_scenario

pytestmark = pytest.mark.virtual_time


if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ZSTD = {"content-encoding": "zstd"}
SMALL = {"GATEWAY_SERVER_MAX_BODY": "1MiB", "GATEWAY_SERVER_MAX_BODY_TOTAL": "3MiB"}
EMBEDDINGS = ("/v1/embeddings", {"model": "m1", "input": "hi"})
ROUTES = [*((speech.path, speech.body) for speech in SSE), EMBEDDINGS]


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_a_body_is_decoded_on_its_way(path: str, body: dict[str, object]) -> None:
    """The backend gets the plain body without a Content-Encoding."""
    plain = json.dumps(body).encode()
    async with open_scenario({"a": Simulator([Model("m1:latest")])}) as scenario:
        reply = await scenario.ask(path, zstd.compress(plain), headers=ZSTD)
        seen = scenario.simulators["a"].seen[-1]

    assert reply.status == 200
    assert seen.body == plain
    assert b"content-encoding" not in {name.lower() for name, _ in seen.headers}


async def test_what_is_decoded_is_what_is_authorised(scenario: Scenario) -> None:
    """The model is authorised from the decoded body."""
    body = zstd.compress(json.dumps({**CHAT, "model": "nobody-has-this"}).encode())
    reply = await scenario.ask("/v1/chat/completions", body, headers=ZSTD)

    assert reply.status == 403


@pytest.mark.parametrize("path", ["/api/chat", "/api/embed", "/api/show"])
async def test_elsewhere_it_is_415(scenario: Scenario, path: str) -> None:
    """On Ollama's own API zstd is a 415, as in Ollama."""
    reply = await scenario.ask(path, zstd.compress(json.dumps(CHAT).encode()), headers=ZSTD)

    assert reply.status == 415
    assert isinstance(reply.document["error"], str)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd, zstd", "zstd, gzip", "x"])
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/v1/responses"])
async def test_other_codings_are_415(scenario: Scenario, path: str, coding: str) -> None:
    """Other codings are a 415."""
    reply = await scenario.ask(path, b"x", headers={"content-encoding": coding})

    assert reply.status == 415


@pytest.mark.parametrize(
    "body", [b"x", b"", zstd.compress(b"{}")[:-2], zstd.compress(b"{}") + b"x"]
)
async def test_a_broken_body_is_400(scenario: Scenario, body: bytes) -> None:
    """Invalid or incomplete zstd is a 400."""
    reply = await scenario.ask("/v1/chat/completions", body, headers=ZSTD)

    assert reply.status == 400
    assert reply.document["error"]["message"] == "the request body is not valid zstd"


async def test_a_bomb_is_413() -> None:
    """The decoded size is bounded by `server.max_body`, however small the body was."""
    bomb = zstd.compress(b'{"x":"%b' % (b"0" * (1 << 27)))
    async with open_scenario(settings=SMALL) as scenario:
        reply = await scenario.ask("/v1/responses", bomb, headers=ZSTD)
        held = scenario.gateway.app.bodies.held

    assert len(bomb) < 100_000
    assert (reply.status, held) == (413, 0)


async def test_what_comes_out_counts_with_all_bodies() -> None:
    """Decoded bytes count in the bound on all bodies: over it a 503, later a 200."""
    body = zstd.compress(json.dumps({**CHAT, "x": "y" * 1_000_000}).encode())
    async with open_scenario(settings=SMALL) as scenario:
        scenario.gateway.app.bodies.held = 2_500_000
        full = await scenario.ask("/v1/chat/completions", body, headers=ZSTD)
        assert scenario.gateway.app.bodies.held == 2_500_000
        scenario.gateway.app.bodies.held = 0
        served = await scenario.ask("/v1/chat/completions", body, headers=ZSTD)

    assert (full.status, full.headers["retry-after"]) == (503, "1")
    assert served.status == 200
    assert [record.reason for record in scenario.records] == ["bodies_full", None]


async def test_what_came_and_what_was_decoded_are_bounded_apart() -> None:
    """Received and decoded bytes are each bounded, not their sum: images hardly compress."""
    noise = base64.b64encode(os.urandom(480_000)).decode()
    plain = json.dumps({"model": "m1", "input": noise}).encode()
    async with open_scenario({"a": Simulator([Model("m1:latest")])}, settings=SMALL) as scenario:
        reply = await scenario.ask("/v1/embeddings", zstd.compress(plain), headers=ZSTD)

    assert len(zstd.compress(plain)) + len(plain) > 2**20
    assert reply.status == 200
